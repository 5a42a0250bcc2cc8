"""Merging the branches of the large-kernel mixer, and its batch norms."""

import json

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from backbones import UnifiedBackbone
from backbones.checkpoint import load_pretrained
from backbones.errors import BackboneError
from backbones.mixers.replk import LargeKernelConvolution
from tests.backbones.test_mixer_parity import assert_probe, build, input_of
from tests.variants import MICRO, ROOT

MEASURED = json.loads((ROOT / 'tests/data/mixers/replk.json').read_text())
MERGED = {name: case for name, case in MEASURED.items() if 'merged' in case}


def random_mixer(dim=8, **options):
    """Return a mixer with random weights and statistics."""
    mixer = LargeKernelConvolution(dim, 0, **options)
    generator = torch.Generator().manual_seed(0)
    for name, value in mixer.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator))
        if name.endswith('running_var'):
            value.abs_().add_(0.1)
    return mixer


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def by_branches(mixer, x):
    """Compute both branches one after the other with PyTorch's layers, in double precision."""
    mixer, x = mixer.double(), x.double().permute(0, 3, 1, 2)
    out = 0
    for branch in (mixer.lkb_origin, mixer.small_conv):
        if branch is not None:
            side = branch.conv.kernel_size[0]
            out = out + branch.bn(F.conv2d(x, branch.conv.weight, padding=side // 2, groups=x.shape[1]))
    mixer.float()
    return out.permute(0, 2, 3, 1)


# Merging


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('name', MERGED)
def test_measured_merged_weights(name, dtype):
    case, tolerance = MERGED[name], {torch.float32: 1e-5, torch.float64: 1e-7}[dtype]
    training = build('replk', case, dtype)
    options = {key: value for key, value in case['options'].items() if key != 'mode'}
    merged = LargeKernelConvolution(case['input'][-1], 0, **options, merged=True).to(dtype)
    merged.load_state_dict(training.state_dict())
    assert merged.state_dict().keys() == {'lkb_reparam.weight', 'lkb_reparam.bias'}
    for key, value in merged.state_dict().items():
        assert_probe(value, case['merged'][key], tolerance)
    x = input_of(case, dtype)
    out = merged(x)
    assert_probe(out, case['merged']['output'], tolerance)
    torch.testing.assert_close(out, training(x))


@pytest.mark.parametrize('small_kernel', [None, 1, 5, 13])
def test_merged_output_is_that_of_the_branches(small_kernel):
    mixer = random_mixer(kernel_size=13, small_kernel=small_kernel).eval()
    x = random(2, 9, 11, 8)
    torch.testing.assert_close(mixer(x).double(), by_branches(mixer, x), rtol=1e-5, atol=1e-4)


def test_eval_follows_every_change_of_the_weights():
    mixer = random_mixer(kernel_size=7).eval()
    x = random(1, 6, 6, 8)
    before = mixer(x)
    with torch.no_grad():
        mixer.small_conv.bn.running_mean.add_(1)
    torch.testing.assert_close(mixer(x).double(), by_branches(mixer, x), rtol=1e-5, atol=1e-4)
    assert not torch.allclose(mixer(x), before)


@pytest.mark.parametrize('prefix', ['', 'backbone.stages.0.0.mixer.'])
def test_merged_mixer_loads_branches_under_any_prefix(prefix):
    training, merged = random_mixer(kernel_size=7), random_mixer(kernel_size=7, merged=True)
    outer = merged
    for part in reversed(prefix.split('.')[:-1]):
        inner, outer = outer, nn.Module()
        outer.add_module(part, inner)
    outer.load_state_dict({prefix + name: value for name, value in training.state_dict().items()})
    x = random(1, 6, 6, 8)
    torch.testing.assert_close(merged(x), training.eval()(x))


def test_merged_mixer_loads_merged_weights():
    released, mixer = random_mixer(kernel_size=7, merged=True), random_mixer(kernel_size=7, merged=True)
    weights = {name: 2 * value for name, value in released.state_dict().items()}
    mixer.load_state_dict(weights)
    assert torch.equal(mixer.lkb_reparam.weight, weights['lkb_reparam.weight'])


def test_merging_does_not_change_the_given_weights():
    training, merged = random_mixer(kernel_size=7), random_mixer(kernel_size=7, merged=True)
    weights = training.state_dict()
    names = [*weights]
    merged.load_state_dict(weights)
    assert [*weights] == names


def test_half_precision_weights_are_merged_in_single_precision():
    training, merged = random_mixer(kernel_size=7), random_mixer(kernel_size=7, merged=True)
    half = {name: value.bfloat16() for name, value in training.state_dict().items()}
    merged.load_state_dict(half)
    training.load_state_dict(half)
    x = random(1, 6, 6, 8)
    torch.testing.assert_close(merged(x), training.eval()(x))


def test_merged_weights_cannot_be_trained():
    weights = random_mixer(kernel_size=7, merged=True).state_dict()
    with pytest.raises(BackboneError, match=r'lkb_reparam: .* set merged=True in the mixer'):
        random_mixer(kernel_size=7).load_state_dict(weights)


# Batch norms


def test_training_uses_batch_statistics():
    mixer = random_mixer(kernel_size=7).train()
    x = random(3, 6, 6, 8)
    expected = by_branches(mixer, x)
    torch.testing.assert_close(mixer(x).double(), expected, rtol=1e-5, atol=1e-4)
    assert mixer.lkb_origin.bn.num_batches_tracked == 2


def test_frozen_batch_norms_in_training():
    """With `norm_eval`, statistics stay the same, and all weights have the gradients of eval mode."""
    mixer = random_mixer(kernel_size=7).train()
    for module in mixer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    before = {name: value.clone() for name, value in mixer.named_buffers()}
    x = random(2, 6, 6, 8).requires_grad_()
    grad = random(2, 6, 6, 8)
    tensors = [x, *mixer.parameters()]
    found = torch.autograd.grad(mixer(x), tensors, grad)
    assert all(torch.equal(value, before[name]) for name, value in mixer.named_buffers())
    double = mixer.double()
    inputs = [x.detach().double().requires_grad_(), *double.parameters()]
    double.eval()
    out = 0
    for branch in (double.lkb_origin, double.small_conv):
        side = branch.conv.kernel_size[0]
        y = F.conv2d(inputs[0].permute(0, 3, 1, 2), branch.conv.weight, padding=side // 2, groups=8)
        out = out + branch.bn(y)
    expected = torch.autograd.grad(out.permute(0, 2, 3, 1), inputs, grad.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-3)


def test_one_frozen_branch_only():
    mixer = random_mixer(kernel_size=7).train()
    mixer.small_conv.eval()
    x = random(2, 6, 6, 8)
    torch.testing.assert_close(mixer(x).double(), by_branches(mixer, x), rtol=1e-5, atol=1e-4)


def test_synchronized_batch_norms_take_their_place():
    mixer = nn.SyncBatchNorm.convert_sync_batchnorm(random_mixer(kernel_size=7))
    assert isinstance(mixer.lkb_origin.bn, nn.SyncBatchNorm)
    x = random(1, 6, 6, 8)
    expected = random_mixer(kernel_size=7).eval()(x)
    torch.testing.assert_close(mixer.eval()(x), expected)


# In a backbone


def test_kernel_sizes_by_stage():
    mixer = dict(type='replk', kernel_size=[31, 29, 27, 13])
    backbone = UnifiedBackbone(mixer, dims=(8, 8, 8, 8), depths=(1, 1, 1, 1))
    sides = [stage[0].mixer.lkb_origin.conv.kernel_size[0] for stage in backbone.stages]
    assert sides == [31, 29, 27, 13]
    maps = backbone.eval()(random(1, 3, 32, 40))
    assert [tuple(each.shape[2:]) for each in maps] == [(8, 10), (4, 5), (2, 3), (1, 2)]


@pytest.mark.parametrize(('training', 'taps'), [(True, 7**2 + 5**2), (False, 7**2)])
def test_flops(training, taps):
    mixer = LargeKernelConvolution(8, 0, kernel_size=7).to('meta').train(training)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        mixer(torch.empty(2, 4, 5, 8, device='meta'))
    assert counter.get_total_flops() == 2 * taps * (2 * 4 * 5) * 8


@pytest.mark.parametrize('training', [True, False])
def test_compiled_and_exported(training):
    mixer = random_mixer(kernel_size=7).train(training)
    x = random(2, 6, 5, 8)
    expected = mixer(x)
    compiled = torch.compile(mixer, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(x), expected)
    compiled(x).sum().backward()
    if not training:
        exported = torch.export.export(mixer, (x,))
        torch.testing.assert_close(exported.module()(x), expected)


@pytest.mark.parametrize(
    'options',
    [
        {'kernel_size': 30},
        {'small_kernel': 4},
        {'kernel_size': 3, 'small_kernel': 5},
        {'small_kernel': -1},
    ],
)
def test_wrong_sides(options):
    with pytest.raises(BackboneError, match='odd number'):
        LargeKernelConvolution(8, 0, **options)


def test_pretrained_weights_of_two_branches_load_into_a_merged_backbone(tmp_path):
    settings = MICRO['replk_micro']
    merged = {**settings, 'mixer': {**settings['mixer'], 'merged': True}}
    trained = MODELS.build(settings)
    torch.save(trained.state_dict(), tmp_path / 'trained.pth')
    backbone = MODELS.build(merged)
    assert load_pretrained(backbone, str(tmp_path / 'trained.pth')).share == 1
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs = zip(backbone.eval()(x), trained.eval()(x), strict=True)
        for found, expected in outputs:
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
