"""The backbone with every mixer: shapes, gradients, options, errors, copying and compiling."""

import copy
import importlib
import io
import math
import pickle
import re

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope

from backbones import MIXERS, BackboneError, UnifiedBackbone
from backbones.checkpoint import released_name
from backbones.unified import drop_path_schedule
from tests.variants import MICRO, VARIANTS, classifier_config

AGENT_TABLES = ('an_bias', 'na_bias', 'ah_bias', 'aw_bias', 'ha_bias', 'wa_bias')
every_mixer = pytest.mark.parametrize('mixer', MIXERS)


def config(token, **options):
    """Return a shallow micro variant with layer scale 1 and no drop path, so that branches matter."""
    defaults = {'depths': [1, 2, 1, 1], 'drop_path_rate': 0.0, 'layer_scale_init_value': 1.0}
    return {**MICRO[f'{token}_micro'], **defaults, **options}


def build(token, **options):
    return MODELS.build(config(token, **options)).eval()


def disturb(model):
    """Perturb every parameter, since some branches cancel out or are off at initialization."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def image(height=64, width=64, batch=2, dtype=torch.float32):
    return torch.randn(batch, 3, height, width, dtype=dtype)


def loss_of(outputs):
    """Return a loss that depends on every element of every map, each with a different weight."""
    generator = torch.Generator().manual_seed(1)
    return sum((out * torch.randn(out.shape, generator=generator).to(out)).sum() for out in outputs)


def gradients(model, x):
    model.zero_grad()
    loss_of(model(x)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_outputs(first, second, **tolerance):
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


# Outputs


def test_every_mixer_has_its_scales():
    assert set(VARIANTS) == {f'{m}_{s}' for m in MIXERS for s in ('micro', 'tiny', 'small', 'base')}


@every_mixer
@settings(max_examples=6, deadline=None)
@given(height=st.integers(32, 100), width=st.integers(32, 100))
def test_maps_are_divided_by_their_strides_rounded_up(mixer, height, width):
    model = build(mixer)
    with torch.no_grad():
        outputs = model(image(height, width, batch=1))
    assert [tuple(out.shape) for out in outputs] == [
        (1, dim, math.ceil(height / stride), math.ceil(width / stride))
        for dim, stride in zip(model.dims, (4, 8, 16, 32), strict=True)
    ]
    assert all(out.isfinite().all() for out in outputs)


@every_mixer
@pytest.mark.parametrize('size', [(32, 32), (33, 32), (32, 95)])
def test_smallest_inputs(mixer, size):
    outputs = build(mixer)(image(*size, batch=1))
    assert [out.shape[2:] for out in outputs] == [
        tuple(math.ceil(n / stride) for n in size) for stride in (4, 8, 16, 32)
    ]
    assert all(out.isfinite().all() for out in outputs)


@every_mixer
def test_extreme_images_give_finite_maps(mixer):
    x = torch.cat([torch.zeros(1, 3, 64, 64), torch.full((1, 3, 64, 64), 1e4), 1e4 * image(batch=1)])
    assert all(out.isfinite().all() for out in disturb(build(mixer))(x))


@every_mixer
def test_eval_is_deterministic_and_samples_are_independent(mixer):
    model, x = build(mixer, drop_path_rate=0.5), image()
    with torch.no_grad():
        outputs = model(x)
        assert_same_outputs(outputs, model(x), rtol=0, atol=0)
        alone = [torch.cat(maps) for maps in zip(model(x[:1]), model(x[1:]), strict=True)]
    assert_same_outputs(outputs, alone, rtol=1e-4, atol=1e-4)


@every_mixer
def test_every_mixer_but_the_identity_mixes(mixer):
    """A change in one corner of the image affects more than the tokens there in the first map."""
    model, x = disturb(build(mixer)), image(batch=1)
    changed = x.clone()
    changed[..., :4, :4] += 1
    with torch.no_grad():
        difference = (model(x)[0] - model(changed)[0]).abs().amax(1)[0]
    # The stem alone affects up to two tokens.
    assert (difference[2:4, 2:4].max() > 1e-4) == (mixer != 'identity')
    if mixer == 'identity':
        assert not difference[2:, 2:].any()


@every_mixer
def test_maps_are_channels_last(mixer):
    for x in (image(), image().to(memory_format=torch.channels_last)):
        for out in build(mixer)(x):
            assert out.is_contiguous(memory_format=torch.channels_last)


@every_mixer
def test_memory_format_of_the_input_does_not_matter(mixer):
    model, x = build(mixer), image(45, 70)
    expected = model(x)
    assert_same_outputs(model(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-4)


@every_mixer
def test_float64(mixer):
    model, x = build(mixer), image()
    with torch.no_grad():
        single = model(x)
        double = model.double()(x.double())
    assert {out.dtype for out in double} == {torch.float64}
    assert_same_outputs([out.double() for out in single], double, rtol=1e-3, atol=1e-3)


@every_mixer
def test_bfloat16_autocast_is_close(mixer):
    model, x = disturb(build(mixer)), image(96, 80)
    expected = model(x)
    with torch.autocast('cpu', torch.bfloat16):
        outputs = model(x)
        loss = loss_of(outputs)
    loss.backward()
    for out, reference in zip(outputs, expected, strict=True):
        difference = (out.float() - reference).pow(2).mean().sqrt()
        assert difference < 0.05 * reference.pow(2).mean().sqrt()
        assert not torch.equal(out.float(), reference)
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name


@every_mixer
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_weights(mixer, dtype):
    model, x = build(mixer), image(batch=1)
    with torch.no_grad():
        expected = model(x)
        outputs = model.to(dtype)(x.to(dtype))
    for out, reference in zip(outputs, expected, strict=True):
        assert out.dtype == dtype
        difference = (out.float() - reference).pow(2).mean().sqrt()
        assert difference < 0.1 * reference.pow(2).mean().sqrt()


# Gradients


def without_effect(mixer, name, gradient):
    """Return the part of a gradient for parameters that change no output, if any.

    A bias b on every key adds the same q.b to each logit of a query q, which softmax ignores. Pooling
    subtracts a bias of the norm before it again.
    """
    if mixer in ('swin', 'nat') and name.endswith('qkv.bias'):
        return gradient.chunk(3)[1]
    if mixer in ('pvt', 'agent') and name.endswith('kv.bias'):
        return gradient.chunk(2)[0]
    if mixer == 'pool' and re.fullmatch(r'stages\.\d\.\d+\.norm1\.bias', name):
        return gradient
    return gradient[:0]


@every_mixer
def test_every_parameter_has_a_gradient(mixer):
    model = disturb(build(mixer).double().train())
    x = image(dtype=torch.float64).requires_grad_()
    found = gradients(model, x)
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, gradient in found.items():
        assert gradient.isfinite().all(), name
        silent = without_effect(mixer, name, gradient)
        assert gradient.abs().max() > 1e-7 or silent.numel() == gradient.numel(), name
        # A sampling point outside the map has no gradient; all other biases affect every map.
        if name.endswith('.bias') and not name.endswith(('sampling_offsets.bias', 'offset_mask.bias')):
            assert (gradient.abs() < 1e-9).sum() == silent.numel(), name
        assert (silent.abs() < 1e-9).all(), name
    assert x.grad.isfinite().all()
    assert (x.grad != 0).all()


@every_mixer
def test_gradient_agrees_with_finite_differences(mixer):
    model = disturb(build(mixer).double())
    x = image(batch=1, dtype=torch.float64)
    found = gradients(model, x)
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    slope = sum((found[name] * direction[name]).sum() for name in found)

    def moved(step):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(step * direction[name])
            return loss_of(model(x))

    step = 1e-7
    numeric = (moved(step) - moved(-2 * step)) / (2 * step)
    torch.testing.assert_close(numeric, slope, rtol=1e-3, atol=1e-3)


@every_mixer
@pytest.mark.parametrize('drop_path_rate', [0.0, 0.5])
def test_checkpointing_changes_nothing(mixer, drop_path_rate):
    plain = disturb(build(mixer, drop_path_rate=drop_path_rate)).train()
    saving = build(mixer, drop_path_rate=drop_path_rate, with_cp=True).train()
    saving.load_state_dict(plain.state_dict())
    x = image(batch=4)
    results = []
    for model in (plain, saving):
        torch.manual_seed(3)
        outputs = model(x)
        results.append((outputs, gradients(model, x)))
    assert_same_outputs(results[0][0], results[1][0])
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, rtol=1e-4, atol=1e-4)


def test_checkpointing_recomputes_each_block():
    model = build('convnext', with_cp=True)
    calls = []
    for stage in model.stages:
        for block in stage:
            block.register_forward_pre_hook(lambda *_: calls.append(1))
    outputs = model(image())
    assert len(calls) == 5
    loss_of(outputs).backward()
    assert len(calls) == 10
    with torch.no_grad():
        model(image())
    assert len(calls) == 15


# Options


@pytest.mark.parametrize('indices', [(0,), (3,), (1, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize('norm_placement', ['output', 'trunk'])
def test_out_indices(indices, norm_placement):
    model = build('pvt', norm_placement=norm_placement)
    fewer = build('pvt', norm_placement=norm_placement, out_indices=indices)
    fewer.load_state_dict(model.state_dict(), strict=False)
    x = image()
    assert_same_outputs(fewer(x), [model(x)[i] for i in indices])


def test_output_norms_do_not_change_the_trunk():
    model, x = build('swin'), image()
    before = model(x)
    with torch.no_grad():
        model.out_norms['1'].weight.mul_(2)
    after = model(x)
    assert_same_outputs(after, [before[0], 2 * before[1], before[2], before[3]])
    assert not model.stage_norms


def test_trunk_norms_affect_later_stages():
    model, x = build('swin', norm_placement='trunk'), image()
    before = model(x)
    with torch.no_grad():
        model.stage_norms['1'].bias.add_(torch.randn(model.dims[1]))
    after = model(x)
    assert torch.equal(before[0], after[0])
    assert all(not torch.allclose(b, a, atol=1e-2) for b, a in zip(before[1:], after[1:], strict=True))
    assert not model.out_norms
    mean = before[2].mean(1)
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-4)


def test_trunk_norms_give_the_classifiers_maps():
    """With trunk norms and positions on the shortcut, the last map is the input of the head."""
    options = {**config('pvt'), 'norm_placement': 'trunk', 'pos_embed_on_shortcut': True}
    dense = MODELS.build(options).eval()
    classifier = MODELS.build({**classifier_config(config('pvt')), 'num_classes': 5}).eval()
    dense.load_state_dict(classifier.state_dict(), strict=False)
    seen = []
    classifier.conv_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = image()
    assert classifier(x).shape == (2, 5)
    assert_same_outputs(seen, dense(x)[-1:])


@every_mixer
@pytest.mark.parametrize('norm_placement', ['output', 'trunk'])
@pytest.mark.parametrize('frozen_stages', range(-1, 5))
def test_frozen_stages(mixer, frozen_stages, norm_placement):
    model = build(mixer, frozen_stages=frozen_stages, norm_placement=norm_placement, drop_path_rate=0.5)
    frozen = []
    if frozen_stages >= 0:
        frozen += ['stem.']
        for stage in range(frozen_stages):
            frozen += [f'stages.{stage}.', f'downsamples.{stage - 1}.', f'stage_norms.{stage}.']
    model.train()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(tuple(frozen)), name
    for name, module in model.named_modules():
        if name and '.' in name:
            assert module.training != f'{name}.'.startswith(tuple(frozen)), name
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    if trainable:
        assert gradients(model, image(batch=8)).keys() == trainable
    model.eval()
    assert not any(module.training for module in model.modules())


def test_frozen_stages_do_not_drop_paths():
    model = disturb(build('convnext', frozen_stages=4, drop_path_rate=0.9)).train()
    x = image()
    assert_same_outputs(model(x), model(x), rtol=0, atol=0)


def test_norm_eval_keeps_batch_norms_in_eval_mode():
    class Normed(UnifiedBackbone):
        def __init__(self, **options):
            super().__init__(**options)
            self.batch_norm = torch.nn.BatchNorm2d(3)

    options = config('convnext')
    del options['type']
    for norm_eval in (False, True):
        model = Normed(**options, norm_eval=norm_eval)
        assert model.train() is model
        assert model.batch_norm.training is not norm_eval
        assert model.stages.training
        assert not model.eval().batch_norm.training


def test_drop_path_rises_linearly():
    assert drop_path_schedule(0.4, [2, 1, 2]) == [
        pytest.approx([0.0, 0.1]),
        pytest.approx([0.2]),
        pytest.approx([0.3, 0.4]),
    ]
    assert drop_path_schedule(0.3, [1]) == [[0.0]]
    model = build('pvt', depths=[2, 1, 1, 1], drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for stage in model.stages for block in stage]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_drop_path_drops_whole_branches_per_sample():
    """Each sample has either the whole branch, scaled to keep the mean, or none of it."""
    model = build('convnext', drop_path_rate=0.5)
    block = model.stages[3][0]
    assert block.drop_path.drop_prob == pytest.approx(0.5)
    branch = block.drop_path.train()(torch.ones(1000, 2, 2, 3))
    assert set(branch.unique().tolist()) == {0.0, 2.0}
    assert (branch == branch[:, :1, :1, :1]).all()
    assert 0.4 < (branch[:, 0, 0, 0] > 0).float().mean() < 0.6
    assert torch.equal(block.drop_path.eval()(branch), branch)


def test_both_branches_of_a_block_can_be_dropped():
    block = disturb(build('convnext', drop_path_rate=1.0)).stages[3][0]
    x = torch.randn(2, 2, 2, 256)
    assert torch.equal(block.train()(x), x)
    assert not torch.equal(block.eval()(x), x)


def test_layer_scale_init_value():
    model = MODELS.build({**config('swin'), 'layer_scale_init_value': 0.25})
    scales = [p for name, p in model.named_parameters() if name.endswith('gamma')]
    assert len(scales) == 10
    assert all((scale == 0.25).all() for scale in scales)
    default = MODELS.build({k: v for k, v in config('swin').items() if 'layer_scale' not in k})
    assert (default.stages[0][0].layer_scale1.gamma == torch.tensor(1e-6)).all()


@every_mixer
def test_linears_and_convolutions_start_from_a_truncated_normal(mixer):
    model = MODELS.build(config(mixer))
    for name, module in model.named_modules():
        if mixer == 'dcnv4' and name.endswith(('offset_mask', 'value_proj', 'output_proj')):
            # Offsets and weights are 0 at the start; see the mixer.
            assert module.weight.any() == (not name.endswith('offset_mask'))
        elif isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            if module.weight.numel() > 500:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
            assert module.bias is None or not module.bias.any(), name
    for name, parameter in model.named_parameters():
        if name.endswith(('relative_position_bias_table', 'pos_embed.weight', 'rpb', *AGENT_TABLES)):
            assert 0.01 < parameter.std() < 0.03, name
        elif name.endswith(('height_rel', 'width_rel')):
            channels_of_a_head = parameter.shape[1]
            assert parameter.std().item() == pytest.approx(channels_of_a_head**-0.5, rel=0.2), name


def test_epsilons_of_the_norms():
    def epsilons(mixer, part):
        modules = dict(build(mixer).named_modules()).items()
        norms = {m.eps for n, m in modules if n.startswith(part) and isinstance(m, torch.nn.LayerNorm)}
        return norms

    for mixer in MIXERS:
        for part in ('stem', 'downsamples', 'out_norms'):
            assert epsilons(mixer, part) == {1e-6}
    blocks = {mixer: epsilons(mixer, 'stages') for mixer in ('swin', 'convnext', 'halo', 'pvt', 'dcn')}
    assert blocks == {
        'swin': {1e-6},
        'convnext': {1e-6},
        'halo': {1e-5},
        'pvt': {1e-5},
        'dcn': {1e-5},
    }


def test_in_channels():
    assert build('convnext', in_channels=5)(torch.randn(1, 5, 32, 32))[0].shape[1] == 32


# Invalid options


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'mixer': {'type': 'swim'}},
            "unknown mixer 'swim'; choose from halo, pvt, swin, convnext, dcn",
        ),
        ({'mixer': {}}, "dict(type='swin'"),
        ({'mixer': 'swin'}, "dict(type='swin'"),
        ({'mixer': {'type': 'swin', 'num_head': 1}}, "no option 'num_head'; did you mean 'num_heads'"),
        ({'mixer': {'type': 'swin', 'zzz': 1, 'num_heads': 1}}, "no option 'zzz'"),
        ({'mixer': {'type': 'swin', 'dim': 8, 'num_heads': 1}}, "no option 'dim'"),
        ({'mixer': {'type': 'convnext', 'num_heads': 1}}, "no option 'num_heads'"),
        ({'mixer': {'type': 'swin'}}, "needs the option 'num_heads'"),
        ({'mixer': {'type': 'pvt', 'num_heads': 1}}, "needs the option 'sr_ratio'"),
        ({'mixer': {'type': 'swin', 'num_heads': [1, 2, 4]}}, 'num_heads=[1, 2, 4] has 3 entries'),
        ({'mixer': {'type': 'swin', 'num_heads': 3}}, '32 channels cannot be split into num_heads=3'),
        ({'mixer': {'type': 'halo', 'num_heads': 3}}, '32 channels cannot be split'),
        ({'mixer': {'type': 'dcn', 'num_heads': 0}}, '32 channels cannot be split'),
        ({'mixer': {'type': 'pvt', 'num_heads': 3, 'sr_ratio': 1}}, '32 channels cannot be split'),
        ({'dims': [32, 64, 128]}, 'dims=[32, 64, 128] has 3 entries; depths has 4 stages'),
        ({'mlp_ratios': [4] * 5}, 'mlp_ratios=[4, 4, 4, 4, 4] has 5 entries'),
        ({'pos_embed_sizes': [56]}, 'pos_embed_sizes=[56] has 1 entries'),
        ({'out_indices': (0, 4)}, 'out_indices=(0, 4): choose from 0 to 3'),
        ({'out_indices': (-1,)}, 'out_indices=(-1,): choose from 0 to 3'),
        ({'out_indices': ()}, 'out_indices=()'),
        ({'frozen_stages': 5}, 'frozen_stages=5: choose from -1 to 4'),
        ({'frozen_stages': -2}, 'frozen_stages=-2: choose from -1 to 4'),
        ({'drop_path_rate': 1.5}, 'drop_path_rate=1.5: choose from 0 to 1'),
        ({'mixer': {'type': 'convnext', 'kernel_size': 4}}, 'kernel_size=4: choose an odd number'),
        (
            {'mixer': {'type': 'dcn', 'num_heads': 2, 'kernel_size': 2}},
            'kernel_size=2: choose an odd number',
        ),
        ({'init_cfg': {'type': 'Pretrained'}}, "give dict(type='Pretrained', checkpoint=..."),
        ({'init_cfg': [{'type': 'Pretrained', 'checkpoint': 'a.pth'}]}, "give dict(type='Pretrained'"),
        ({'norm_placement': 'inside'}, "norm_placement='inside': choose 'output' or 'trunk'"),
    ],
)
def test_invalid_options_are_named(options, message):
    settings = {k: v for k, v in config('swin', **options).items() if k != 'type'}
    with pytest.raises(BackboneError) as error:
        UnifiedBackbone(**settings)
    assert message in str(error.value)
    assert '\n' not in str(error.value)


def test_unknown_arguments_raise():
    with pytest.raises(TypeError, match='drop_path'):
        MODELS.build(config('swin', drop_path=0.1))


@every_mixer
@pytest.mark.parametrize('size', [(31, 64), (64, 31), (1, 1)])
def test_too_small_inputs_are_rejected(mixer, size):
    with pytest.raises(BackboneError, match=f'{size[0]}x{size[1]} pixels .height x width.*at least 32'):
        build(mixer)(image(*size))


# Copying, saving and compiling


def renamed(model):
    """Return new weights for a model, by released names that differ from the model's own."""
    weights = {
        released_name(name, model.mixer_name): torch.rand_like(value)
        if value.is_floating_point()
        else value
        for name, value in model.state_dict().items()
    }
    assert not set(weights) & {n for n in model.state_dict() if n.startswith('stem')}
    return weights


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


def through_torch_save(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@every_mixer
@pytest.mark.parametrize('travel', [copy.deepcopy, through_pickle, through_torch_save])
def test_copies_are_equal_and_independent(mixer, travel):
    model = disturb(build(mixer))
    x = image(batch=1)
    expected = model(x)
    twin = travel(model)
    assert_same_outputs(twin(x), expected, rtol=0, atol=0)
    # The copy translates released names by its own mixer, even if the original has a different one.
    model.mixer_name = 'another'
    weights = renamed(twin)
    incompatible = twin.load_state_dict(weights)
    assert not incompatible.missing_keys
    assert not incompatible.unexpected_keys
    model.mixer_name = mixer
    assert_same_outputs(model(x), expected, rtol=0, atol=0)
    assert not torch.equal(twin(x)[0], expected[0])


@every_mixer
def test_state_dict_round_trip(mixer):
    model, other = disturb(build(mixer)), build(mixer)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same_outputs(other(image(batch=1).zero_()), model(image(batch=1).zero_()), rtol=0, atol=0)


@every_mixer
def test_state_dict_has_only_parameters_and_statistics(mixer):
    model = build(mixer)
    statistics = ('running_mean', 'running_var', 'num_batches_tracked')
    kept = {name for name in model.state_dict() if not name.endswith(statistics)}
    assert kept == dict(model.named_parameters()).keys()


@every_mixer
def test_built_by_the_registries_of_both_tasks(mixer):
    for library in ('mmdet', 'mmseg'):
        importlib.import_module(f'{library}.utils').register_all_modules(init_default_scope=False)
        registry = importlib.import_module(f'{library}.registry').MODELS
        with DefaultScope.overwrite_default_scope(library):
            model = registry.build(config(mixer))
        assert type(model) is UnifiedBackbone
        assert isinstance(model, BaseModule)


@every_mixer
def test_compiled_equals_eager(mixer):
    torch._dynamo.reset()
    model = disturb(build(mixer, depths=[1, 1, 1, 1]))
    compiled = torch.compile(model, backend='eager', fullgraph=True, dynamic=False)
    x = image(batch=1)
    expected = gradients(model, x)
    with torch.no_grad():
        assert_same_outputs(compiled(x), model(x))
    for name, gradient in gradients(compiled, x).items():
        name = name.removeprefix('_orig_mod.')
        eager = expected[name]
        if without_effect(mixer, name, eager).numel() == eager.numel():
            continue
        # Rounding errors scale with the largest terms of the sums.
        torch.testing.assert_close(gradient, eager, rtol=0, atol=2e-5 * eager.abs().max().item())


# Mixers with windows are correct too, but their symbolic shapes take a minute to compile.
@pytest.mark.parametrize('mixer', ['convnext', 'dcn'])
def test_compiled_once_for_different_sizes(mixer):
    torch._dynamo.reset()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    model = disturb(build(mixer, depths=[1, 1, 1, 1]))
    compiled = torch.compile(model, backend=count, dynamic=True)
    with torch.no_grad():
        for size in ((45, 70), (70, 45), (62, 71)):
            x = image(*size, batch=1)
            assert_same_outputs(compiled(x), model(x))
    # The oldest supported PyTorch compiles once more for the second size.
    assert len(graphs) == (2 if torch.__version__.startswith('2.6.') else 1)


class TestStageMaps:
    @pytest.mark.parametrize('variant', MICRO)
    def test_classifier_maps_are_trunk_maps(self, variant):
        """A dense backbone with the same weights and trunk norms returns the same maps."""
        classifier = MODELS.build(classifier_config(MICRO[variant])).eval()
        dense = {
            **MICRO[variant],
            'drop_path_rate': 0.0,
            'norm_placement': 'trunk',
            'pos_embed_on_shortcut': True,
        }
        backbone = MODELS.build(dense).eval()
        weights = classifier.state_dict()
        backbone.load_state_dict({name: weights[name] for name in backbone.state_dict()})
        x = torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            expected, found = backbone(x), classifier.stage_maps(x, range(4))
        assert len(found) == 4
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        features = classifier.conv_head(found[3]).mean((2, 3))
        assert torch.equal(classifier.head(features), classifier(x))
