"""Every mixer since the paper compared with a step-by-step version in plain PyTorch."""

import pytest
import torch

from backbones.unified import build_mixer
from tests.backbones.straightforward import STRAIGHTFORWARD
from tests.variants import LATER_MIXERS, MICRO

# Windows of the mixers fit the first map only, which also has remainders.
SIZES = [(19, 34), (9, 5)]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('stage', [0, 2])
@pytest.mark.parametrize('mixer', STRAIGHTFORWARD)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=['exact', 'fast']
)
def test_mixers_equal_their_straightforward_versions(mixer, stage, size, dtype, tolerance):
    torch.manual_seed(0)
    config = MICRO[f'{mixer}_micro']
    module = build_mixer(config['mixer'], stage, 4, config['dims'][stage], 1).to(dtype)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, *size, config['dims'][stage], dtype=dtype)
    tensors = [x.requires_grad_(), *module.parameters()]
    cotangent = torch.randn_like(x)
    found, expected = (
        (out.detach(), *torch.autograd.grad(out, tensors, cotangent))
        for out in (module(x), STRAIGHTFORWARD[mixer](module, x))
    )
    for ours, plain in zip(found, expected, strict=True):
        largest = max(plain.abs().max().item(), 1e-3)
        torch.testing.assert_close(ours, plain, rtol=0, atol=tolerance * largest)


def test_every_later_mixer_but_the_identity_has_one():
    assert set(STRAIGHTFORWARD) == set(LATER_MIXERS) - {'identity'}
