"""Every mixer on a device other than the CPU: results of the CPU, and no transfers."""

import copy

import pytest
import torch
from mmengine.registry import MODELS

from tests.pretended_device import NAME, DeviceTensor, pretended_device
from tests.variants import MICRO

# Sides that no window divides.
SIZE = (2, 3, 75, 109)


def pass_of(backbone, images):
    """Return maps and the gradients of all parameters, of the mean squares of the maps."""
    maps = backbone(images)
    sum(each.square().mean() for each in maps).backward()
    return [*maps, *(p.grad for p in backbone.parameters() if p.grad is not None)]


@pytest.mark.parametrize('variant', MICRO)
def test_training_pass_without_transfers(variant):
    backbone = MODELS.build({**MICRO[variant], 'drop_path_rate': 0.0})
    images = torch.randn(SIZE)
    expected = pass_of(copy.deepcopy(backbone).train(), images)
    with pretended_device() as transfers:
        there = copy.deepcopy(backbone).to(NAME).train()
        images = images.to(NAME)
        transfers.clear()
        found = pass_of(there, images)
        assert not transfers
        assert all(isinstance(each, DeviceTensor) for each in found)
        found = [each.detach().cpu() for each in found]
    assert len(found) == len(expected)
    for value, truth in zip(found, expected, strict=True):
        truth = truth.detach()
        torch.testing.assert_close(value, truth, rtol=1e-3, atol=1e-4 * truth.abs().max().item())
