"""Checkpoints of every origin load into the backbone that they were made for, and into no other."""

import argparse
import json
import pathlib

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from safetensors.torch import save_file
from scipy.interpolate import RegularGridInterpolator
from torch import nn

from backbones import PAPER_MIXERS, BackboneError
from backbones.checkpoint import load_pretrained, released_name
from backbones.checkpoint.translation import fit
from backbones.mixers.focal import FocalModulation
from tests.data.fill import fill
from tests.variants import MICRO, ROOT, VARIANTS, classifier_config

RELEASED = json.loads((ROOT / 'tests/data/released_names.json').read_text())
every_released_mixer = pytest.mark.parametrize('mixer', PAPER_MIXERS)
# An entry of the public classifier of each later mixer, in stage 2 and block 1.
PUBLIC = {
    'nat': 'levels.2.blocks.1.attn.rpb',
    'ss2d': 'layers.2.blocks.1.op.A_logs',
    'linear_attention': 'layers.2.blocks.1.attn.qk.weight',
    'dcnv4': 'levels.2.blocks.1.dcn.offset_mask.weight',
    'replk': 'stages.2.blocks.2.large_kernel.lkb_origin.conv.weight',
    'focal': 'layers.2.blocks.1.modulation.f.weight',
    'agent': 'block3.1.attn.an_bias',
    'identity': 'network.4.1.token_mixer.affine.weight',
}
# Public weights that have axes of length 1 at the end.
POINTWISE = ('in_proj.weight', 'out_proj.weight', 'modulation.h.weight', 'affine.weight')

# Translations of some released names, from the descriptions of the networks.
TRANSLATIONS = {
    'downsample_layers.0.stem.0.weight': 'stem.conv1.weight',
    'downsample_layers.0.stem.1.bias': 'stem.norm1.bias',
    'downsample_layers.0.stem.3.bias': 'stem.conv2.bias',
    'downsample_layers.0.stem.4.weight': 'stem.norm2.weight',
    'downsample_layers.1.reduction.0.weight': 'downsamples.0.conv.weight',
    'downsample_layers.3.reduction.1.weight': 'downsamples.2.norm.weight',
    'out_norm_2.weight': 'out_norms.2.weight',
}
BLOCK_TRANSLATIONS = {
    'halo': {
        'norm1.weight': 'norm1.weight',
        'attn.q.weight': 'mixer.q.weight',
        'attn.kv.weight': 'mixer.kv.weight',
        'attn.pos_embed.height_rel': 'mixer.height_rel',
        'attn.pos_embed.width_rel': 'mixer.width_rel',
        'attn.proj.bias': 'mixer.proj.bias',
        'gamma_1': 'layer_scale1.gamma',
        'gamma_2': 'layer_scale2.gamma',
        'mlp.fc2.weight': 'mlp.fc2.weight',
    },
    'pvt': {
        'pos_embed': 'pos_embed.weight',
        'attn.sr.weight': 'mixer.sr.weight',
        'attn.norm.bias': 'mixer.norm.bias',
        'attn.kv.bias': 'mixer.kv.bias',
        'gamma_1': 'layer_scale1.gamma',
    },
    'swin': {
        'attn.relative_position_bias_table': 'mixer.relative_position_bias_table',
        'attn.qkv.bias': 'mixer.qkv.bias',
        'attn.proj.weight': 'mixer.proj.weight',
        'gamma_2': 'layer_scale2.gamma',
    },
    'convnext': {
        'dw_norm.weight': 'norm1.weight',
        'pw_norm.bias': 'norm2.bias',
        'dw_input_proj.weight': 'mixer.input_proj.weight',
        'dwconv.weight': 'mixer.conv.weight',
        'dw_out_proj.bias': 'mixer.output_proj.bias',
        'pwconv1.weight': 'mlp.fc1.weight',
        'pwconv2.bias': 'mlp.fc2.bias',
        'gamma_1': 'layer_scale1.gamma',
    },
    'dcn': {
        'attn.dw_conv.0.weight': 'mixer.conv.weight',
        'attn.dw_conv.1.norm.weight': 'mixer.norm.weight',
        'attn.sampling_offsets.weight': 'mixer.sampling_offsets.weight',
        'attn.attention_weights.bias': 'mixer.attention_weights.bias',
        'attn.value_proj.weight': 'mixer.value_proj.weight',
        'attn.output_proj.bias': 'mixer.output_proj.bias',
        'gamma1': 'layer_scale1.gamma',
        'gamma2': 'layer_scale2.gamma',
    },
}


def build(mixer, **options):
    return MODELS.build({**MICRO[f'{mixer}_micro'], 'drop_path_rate': 0.0, **options}).eval()


def classifier_weights(mixer):
    """Return the weights of a released ImageNet checkpoint, including derived buffers."""
    return {
        name: torch.tensor(np.asarray(fill(name, tuple(shape))), dtype=torch.float32)
        for name, shape in RELEASED[f'{mixer}_micro']['parameters'].items()
    }


def detector_weights(mixer):
    """Return a released detector's backbone: output norms instead of trunk norms and head."""
    weights = {
        name: value
        for name, value in classifier_weights(mixer).items()
        if not name.startswith(('stage_norms.', 'conv_head.', 'head.'))
    }
    for stage, dim in enumerate(MICRO[f'{mixer}_micro']['dims']):
        for leaf in ('weight', 'bias'):
            name = f'out_norm_{stage}.{leaf}'
            weights[name] = torch.from_numpy(fill(name, (dim,)))
    if mixer == 'swin':
        weights['stages.0.0.attn.relative_position_index'] = torch.zeros(49, 49, dtype=torch.long)
        weights['stages.0.1.attn_mask'] = torch.zeros(64, 49, 49)
    return weights


def own_weights(mixer):
    """Return random weights in the suite's own names."""
    state = build(mixer).state_dict().items()
    return {n: torch.randn_like(v) if v.is_floating_point() else v for n, v in state}


def assert_translated(model, mixer, weights):
    state = model.state_dict()
    pairs = {old: new for old, new in TRANSLATIONS.items() if old in weights}
    for block in ('stages.0.0.', 'stages.2.0.'):
        pairs |= {block + old: block + new for old, new in BLOCK_TRANSLATIONS[mixer].items()}
    for released, own in pairs.items():
        assert torch.equal(state[own].flatten(), weights[released].flatten()), released


def write(path, content, **options):
    torch.save(content, path, **options)
    return str(path)


def pretrained(mixer, path, **init_cfg):
    model = build(mixer, init_cfg={'type': 'Pretrained', 'checkpoint': str(path), **init_cfg})
    model.init_weights()
    return model


# Released names


@every_released_mixer
def test_released_names_load_through_load_state_dict(mixer):
    model, weights = build(mixer), detector_weights(mixer)
    kept = dict(weights)
    incompatible = model.load_state_dict(weights)
    assert not incompatible.missing_keys
    assert not incompatible.unexpected_keys
    assert_translated(model, mixer, weights)
    assert weights.keys() == kept.keys()  # the caller's dict is unchanged


@every_released_mixer
def test_translation_is_one_to_one(mixer):
    names = list(build(mixer).state_dict())
    released = {released_name(name, mixer) for name in names}
    assert len(released) == len(names)
    assert released == {n for n in detector_weights(mixer) if not n.endswith(('_index', 'attn_mask'))}


@every_released_mixer
def test_strict_loading_still_names_what_is_wrong(mixer):
    weights = detector_weights(mixer)
    del weights['downsample_layers.1.reduction.0.weight']
    weights['surplus.weight'] = torch.zeros(1)
    with pytest.raises(RuntimeError) as error:
        build(mixer).load_state_dict(weights)
    assert 'downsamples.0.conv.weight' in str(error.value)
    assert 'surplus.weight' in str(error.value)


@every_released_mixer
def test_nested_in_a_detector(mixer):
    detector = nn.ModuleDict({'backbone': build(mixer), 'backbone_neck': nn.Linear(2, 3)})
    weights = detector_weights(mixer)
    state = {f'backbone.{name}': value for name, value in weights.items()}
    state |= {
        f'backbone_neck.{n}': torch.ones_like(v) for n, v in detector.backbone_neck.state_dict().items()
    }
    detector.load_state_dict(state)
    assert_translated(detector.backbone, mixer, weights)
    assert (detector.backbone_neck.weight == 1).all()


@every_released_mixer
def test_nested_in_a_detector_through_mmengine(mixer, tmp_path):
    detector = nn.ModuleDict({'backbone': build(mixer)})
    weights = detector_weights(mixer)
    state = {f'backbone.{name}': value for name, value in weights.items()}
    path = write(tmp_path / 'detector.pth', {'meta': {}, 'state_dict': state})
    load_checkpoint(detector, path, strict=True, map_location='cpu')
    assert_translated(detector.backbone, mixer, weights)


# Files


def optimizer_state(weights):
    return {'state': {0: {'exp_avg': torch.zeros(3)}}, 'param_groups': [{'lr': 0.1, 'params': [0]}]}


def mmengine_checkpoint(weights):
    """Return a checkpoint as written by mmengine's `CheckpointHook`."""
    return {
        'meta': {
            'epoch': 1,
            'iter': 7,
            'seed': 0,
            'dataset_meta': {'classes': ('disc',)},
            'cfg': 'a = 1',
        },
        'state_dict': {f'backbone.{name}': value for name, value in weights.items()}
        | {'neck.weight': torch.zeros(2)},
        'message_hub': {'log_scalars': {'train/loss': HistoryBuffer([1.0, 0.5], [1, 1])}},
        'optimizer': optimizer_state(weights),
        'param_schedulers': [{'last_step': 1}],
    }


FORMATS = {
    'plain': lambda w: w,
    'model': lambda w: {
        'model': w,
        'args': argparse.Namespace(lr=1e-3, layers=[1, 2], nested=argparse.Namespace(a=None)),
        'optimizer': optimizer_state(w),
        'epoch': 299,
    },
    'paths': lambda w: {'model': w, 'args': argparse.Namespace(output_dir=pathlib.PosixPath('out'))},
    'numpy': lambda w: {'model': w, 'best': np.float64(82.1), 'curve': np.arange(3.0)},
    'state_dict': lambda w: {'state_dict': {f'backbone.{name}': value for name, value in w.items()}},
    'mmengine': mmengine_checkpoint,
    'parallel': lambda w: {'model': {f'module.{name}': value for name, value in w.items()}},
    'averaged': lambda w: {'model_ema': w, 'args': argparse.Namespace()},
    'parameters': lambda w: {
        'model': {name: nn.Parameter(value) for name, value in w.items() if value.is_floating_point()}
    },
}


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('form', FORMATS)
def test_formats(form, zipped, tmp_path):
    weights = detector_weights('swin')
    content = FORMATS[form](weights)
    path = write(tmp_path / 'weights.pth', content, _use_new_zipfile_serialization=zipped)
    assert_translated(pretrained('swin', path), 'swin', weights)


def test_safetensors(tmp_path):
    weights = detector_weights('swin')
    save_file({name: v.contiguous() for name, v in weights.items()}, tmp_path / 'a.safetensors')
    assert_translated(pretrained('swin', tmp_path / 'a.safetensors'), 'swin', weights)


@every_released_mixer
def test_released_detector_as_pretrained_weights(mixer, tmp_path):
    weights = detector_weights(mixer)
    state = {f'backbone.{name}': value for name, value in weights.items()} | {'neck.x': torch.ones(1)}
    path = write(tmp_path / 'detector.pth', {'state_dict': state})
    for prefix in ({}, {'prefix': 'backbone.'}, {'prefix': 'backbone'}):
        assert_translated(pretrained(mixer, path, **prefix), mixer, weights)


@every_released_mixer
def test_own_names_round_trip(mixer, tmp_path):
    weights = own_weights(mixer)
    model = pretrained(mixer, write(tmp_path / 'own.pth', weights))
    saved = model.state_dict()
    assert saved.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(saved[name], value), name


@every_released_mixer
def test_saved_names_are_our_own_after_loading_released_ones(mixer):
    model = build(mixer)
    names = list(model.state_dict())
    model.load_state_dict(detector_weights(mixer))
    saved = model.state_dict()
    assert list(saved) == names
    other = build(mixer)
    other.load_state_dict(saved)
    x = torch.randn(1, 3, 64, 64)
    for first, second in zip(model(x), other(x), strict=True):
        assert torch.equal(first, second)


def test_prefix_without_entries(tmp_path):
    path = write(tmp_path / 'own.pth', own_weights('pvt'))
    with pytest.raises(BackboneError, match=r"nothing under the prefix 'encoder\.'"):
        pretrained('pvt', path, prefix='encoder')


def test_other_init_cfgs_are_left_to_mmengine():
    model = build('convnext', init_cfg={'type': 'Constant', 'layer': 'Linear', 'val': 3.0})
    model.init_weights()
    assert (model.stages[0][0].mlp.fc1.weight == 3).all()
    plain = build('convnext')
    before = plain.stem.conv1.weight.clone()
    plain.init_weights()
    assert torch.equal(plain.stem.conv1.weight, before)


# A classifier's checkpoint in a dense backbone


@every_released_mixer
def test_classifier_checkpoint_in_the_dense_backbone(mixer, tmp_path):
    weights = classifier_weights(mixer)
    path = write(tmp_path / 'imagenet.pth', {'model': weights})
    model = build(mixer)
    starts = {n: v.clone() for n, v in model.state_dict().items() if n.startswith('out_norms.')}
    report = load_pretrained(model, path)
    assert_translated(model, mixer, weights)
    for name, value in starts.items():
        assert torch.equal(model.state_dict()[name], value)
    unused = {n for n in weights if n.startswith(('stage_norms.', 'conv_head.', 'head.'))}
    assert {n for names in report.expected.values() for n in names} == unused | set(starts)
    assert not report.missing
    assert not report.unexpected
    assert not report.mismatched
    assert report.share == 1
    assert set(report.loaded) == set(model.state_dict()) - set(starts)
    text = str(report)
    for word in ('100.0%', 'stage_norms.0', 'conv_head.0.weight', 'out_norms.0.weight'):
        assert word in text


@every_released_mixer
def test_classifier_checkpoint_in_the_classifier(mixer, tmp_path):
    weights = classifier_weights(mixer)
    model = MODELS.build(classifier_config(MICRO[f'{mixer}_micro']))
    report = load_pretrained(model, write(tmp_path / 'imagenet.pth', {'model': weights}))
    assert not report.expected
    assert not report.missing
    assert not report.unexpected
    state = model.state_dict()
    assert set(report.loaded) == set(state)
    for name in ('stage_norms.3.weight', 'conv_head.0.weight', 'conv_head.1.running_var', 'head.bias'):
        assert torch.equal(state[name], weights[name])


def test_classifier_checkpoint_with_norms_on_the_trunk(tmp_path):
    weights = classifier_weights('swin')
    model = build('swin', norm_placement='trunk')
    report = load_pretrained(model, write(tmp_path / 'imagenet.pth', {'model': weights}))
    assert torch.equal(model.stage_norms['2'].weight, weights['stage_norms.2.weight'])
    assert not report.missing
    assert not report.unexpected
    assert not any(n.startswith('stage_norms') for names in report.expected.values() for n in names)


def test_integers_are_not_weights(tmp_path):
    weights = {name: value.int() for name, value in own_weights('convnext').items()}
    with pytest.raises(BackboneError, match=r'only 0\.0% .*: integers in the file'):
        load_pretrained(build('convnext'), write(tmp_path / 'a.pth', weights))


def test_report_names_what_does_not_fit(tmp_path):
    weights = own_weights('convnext')
    weights['surplus'] = torch.zeros(3)
    del weights['stages.0.1.norm1.bias']
    weights['stages.0.0.mlp.fc1.bias'] = torch.zeros(5)
    model = build('convnext')
    report = load_pretrained(model, write(tmp_path / 'own.pth', weights))
    assert report.missing == ['stages.0.1.norm1.bias']
    assert report.unexpected == ['surplus']
    assert len(report.mismatched) == 1
    assert report.mismatched[0].startswith('stages.0.0.mlp.fc1.bias: [5]')
    total = sum(value.numel() for value in model.state_dict().values())
    assert report.share == pytest.approx(1 - (32 + 128) / total)


# Position tables of a different size


def ramp(*lengths):
    """Return a tensor that rises linearly along every axis, with a different slope for each."""
    axes = [torch.linspace(0, 1 + i, n, dtype=torch.float64) for i, n in enumerate(lengths)]
    return sum(torch.meshgrid(*axes, indexing='ij'))


def at_aligned_corners(table, size):
    """Resize (H, W) so that the corners keep their values."""
    axes = [np.linspace(0, 1, n) for n in table.shape]
    sample = np.meshgrid(*(np.linspace(0, 1, n) for n in size), indexing='ij')
    return RegularGridInterpolator(axes, table)(np.stack(sample, -1))


def cubic_weight(distance):
    """Keys' convolution kernel (IEEE TASSP 29(6), 1981), eq. 4, with a = -0.75."""
    a, s = -0.75, abs(distance)
    if s <= 1:
        return (a + 2) * s**3 - (a + 3) * s**2 + 1
    return a * (s**3 - 5 * s**2 + 8 * s - 4) if s < 2 else 0.0


def bicubic(table, side):
    """Resize (H, W) to a square, with pixel centers at half-integers and repeated edges."""

    def along(values):
        scale, out = len(values) / side, []
        for i in range(side):
            place = (i + 0.5) * scale - 0.5
            near = range(int(np.floor(place)) - 1, int(np.floor(place)) + 3)
            out.append(
                sum(cubic_weight(place - j) * values[min(max(j, 0), len(values) - 1)] for j in near)
            )
        return np.array(out)

    return along(along(np.asarray(table)).T).T


@pytest.mark.parametrize('side', [11, 23])
def test_swin_tables_are_resized_bicubically_per_head(side):
    model = build('swin')
    name = 'stages.1.1.attn.relative_position_bias_table'
    weights = detector_weights('swin')
    weights[name] = torch.randn(side**2, 2)
    model.load_state_dict(weights)
    table = model.stages[1][1].mixer.relative_position_bias_table.detach()
    for head in range(2):
        expected = bicubic(weights[name][:, head].view(side, side).double(), 13)
        np.testing.assert_allclose(table[:, head].view(13, 13), expected, atol=1e-5)


@pytest.mark.parametrize('rows', [13, 31])
def test_halo_tables_are_resized_linearly(rows):
    model, weights = build('halo'), detector_weights('halo')
    name = 'stages.1.1.attn.pos_embed.height_rel'
    weights[name] = torch.randn(rows, 32)
    weights['stages.2.3.attn.pos_embed.width_rel'] = ramp(rows, 32).float()
    model.load_state_dict(weights)
    expected = at_aligned_corners(weights[name].numpy(), (25, 32))
    np.testing.assert_allclose(model.stages[1][1].mixer.height_rel.detach(), expected, atol=1e-5)
    slope = model.stages[2][3].mixer.width_rel.detach().double()
    torch.testing.assert_close(slope, ramp(25, 32), rtol=0, atol=1e-5)


@pytest.mark.parametrize('size', [(14, 14), (64, 20)])
def test_pvt_embeddings_are_resized_bilinearly(size):
    model, weights = build('pvt'), detector_weights('pvt')
    random, linear = torch.randn(1, 32, *size), ramp(64, *size)[None].float()
    weights['stages.0.0.pos_embed'] = random
    weights['stages.1.0.pos_embed'] = linear
    model.load_state_dict(weights)
    expected = [at_aligned_corners(channel, (56, 56)) for channel in random[0].numpy()]
    np.testing.assert_allclose(model.stages[0][0].pos_embed.weight[0].detach(), expected, atol=1e-4)
    slope = model.stages[1][0].pos_embed.weight[0].detach().double()
    torch.testing.assert_close(slope, ramp(64, 28, 28), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ('mixer', 'name', 'shape'),
    [
        ('swin', 'stages.1.1.attn.relative_position_bias_table', (121, 3)),
        ('swin', 'stages.1.1.attn.relative_position_bias_table', (170, 2)),
        ('halo', 'stages.1.1.attn.pos_embed.height_rel', (25, 16)),
        ('pvt', 'stages.1.0.pos_embed', (1, 32, 28, 28)),
        ('pvt', 'stages.1.0.pos_embed', (1, 785, 64)),
    ],
)
def test_tables_with_different_heads_or_layouts_are_not_resized(mixer, name, shape, tmp_path):
    weights = detector_weights(mixer)
    weights[name] = torch.zeros(shape)
    with pytest.raises(RuntimeError, match='size mismatch'):
        build(mixer).load_state_dict(weights)
    report = load_pretrained(build(mixer), write(tmp_path / 'other.pth', weights))
    assert len(report.mismatched) == 1
    assert str(list(shape)) in report.mismatched[0]


def test_focal_kernels_are_padded_to_a_larger_window():
    """Padded kernels compute the same, since the zeros around them are centered."""
    small, large = (FocalModulation(8, 0, focal_window=window) for window in (3, 9))
    own = large.state_dict()
    large.load_state_dict(
        {name: fit(value, name, own[name]) for name, value in small.state_dict().items()}
    )
    x = torch.randn(2, 12, 11, 8)
    torch.testing.assert_close(large(x), small(x))
    kernel = large.focal_layers[0][0].weight
    assert torch.equal(kernel[:, :, 3:6, 3:6], small.focal_layers[0][0].weight)
    assert kernel.count_nonzero() == 8 * 9


@pytest.mark.parametrize(
    ('name', 'shape'),
    [
        ('focal_layers.0.0.weight', (8, 1, 11, 11)),
        ('focal_layers.0.0.weight', (8, 1, 4, 4)),
        ('focal_layers.0.0.weight', (8, 1, 3, 5)),
        ('focal_layers.0.0.weight', (4, 1, 3, 3)),
        ('conv.weight', (8, 1, 3, 3)),
    ],
)
def test_kernels_that_cannot_be_centered_are_not_padded(name, shape):
    kernel = torch.randn(shape)
    assert fit(kernel, name, torch.empty(8, 1, 9, 9)) is kernel


def test_resizing_keeps_the_dtype():
    model, weights = build('swin').half(), detector_weights('swin')
    name = 'stages.1.1.attn.relative_position_bias_table'
    weights[name] = torch.randn(121, 2).half()
    model.load_state_dict(weights)
    assert model.stages[1][1].mixer.relative_position_bias_table.dtype == torch.float16


# Checkpoints of a different backbone


def variant(name):
    with torch.device('meta'):
        return MODELS.build(VARIANTS[name])


@pytest.mark.parametrize(
    ('saved', 'wanted'),
    [
        ('halo_small', 'halo_tiny'),
        ('swin_tiny', 'swin_small'),
        ('swin_small', 'swin_tiny'),
        ('convnext_small', 'convnext_tiny'),
        ('pvt_small', 'pvt_tiny'),
        ('pvt_base', 'pvt_small'),
        ('swin_base', 'swin_tiny'),
        ('dcn_tiny', 'dcn_micro'),
        ('halo_tiny', 'swin_tiny'),
        ('swin_micro', 'halo_micro'),
        ('convnext_micro', 'dcn_micro'),
        ('dcn_micro', 'pvt_micro'),
    ],
)
def test_wrong_mixer_or_scale(saved, wanted, tmp_path):
    # Expanding a single element keeps the file small.
    weights = {
        name: torch.zeros(()).expand(value.shape) for name, value in variant(saved).state_dict().items()
    }
    path = write(tmp_path / 'weights.pth', {'model': weights})
    expected = (
        rf'fit this backbone \({wanted}\); the weights are for {saved}, so use a config of {saved}$'
    )
    with pytest.raises(BackboneError, match=expected) as error:
        load_pretrained(variant(wanted), path)
    assert '\n' not in str(error.value)
    assert path in str(error.value)


def test_rejected_checkpoint_changes_nothing(tmp_path):
    path = write(tmp_path / 'weights.pth', own_weights('halo'))
    model = build('swin')
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(BackboneError):
        load_pretrained(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# Files without weights


def truncated(path):
    write(path, own_weights('convnext'))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated_legacy(path):
    write(path, own_weights('convnext'), _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    'spoil',
    [
        truncated,
        truncated_legacy,
        lambda path: path.write_bytes(b''),
        lambda path: path.write_text('<html>not found</html>'),
        lambda path: path.mkdir(),
        lambda path: None,
        lambda path: write(path, [1, 2, 3]),
        lambda path: write(path, torch.zeros(3)),
        lambda path: write(path, {'epoch': 3}),
        lambda path: write(path, {'model': {}}),
        lambda path: write(path, {'state_dict': {'lr': 0.1}}),
        lambda path: write(path, {}),
        lambda path: write(path, {3: torch.zeros(3)}),
    ],
    ids=lambda spoil: None,
)
def test_files_without_weights(spoil, tmp_path):
    path = tmp_path / 'weights.pth'
    spoil(path)
    with pytest.raises(BackboneError) as error:
        pretrained('convnext', path)
    assert str(path) in str(error.value)
    assert '\n' not in str(error.value)
    assert '\x1b' not in str(error.value)


@pytest.mark.parametrize('mixer', PUBLIC)
def test_mixers_load_in_the_names_of_their_public_classifiers(mixer):
    own = {name: value for name, value in own_weights(mixer).items() if '.mixer.' in name}
    public = {released_name(name, mixer): value for name, value in own.items()}
    assert PUBLIC[mixer] in public
    public = {
        name: value[(...,) + (None,) * (4 - value.ndim)] if name.endswith(POINTWISE) else value
        for name, value in public.items()
    }
    # A table that the public linear attention derives from the size of its maps.
    public['layers.0.blocks.0.attn.rope.rotations'] = torch.zeros(7, 7, 16, 2)
    model = build(mixer)
    incompatible = model.load_state_dict(public, strict=False)
    assert not incompatible.unexpected_keys
    assert not any('.mixer.' in name for name in incompatible.missing_keys)
    for name, value in own.items():
        assert torch.equal(model.state_dict()[name], value), name
