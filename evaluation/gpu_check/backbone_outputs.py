"""Stage `backbones`: every mixer at the micro scale, compared with plain PyTorch on the CPU."""

import copy
import os
from functools import partial
from unittest import mock

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from backbones import MIXERS, mmcv_ops
from backbones.ops.fast_paths import BACKENDS, REFERENCE
from evaluation.benchmark.passes import DTYPES
from evaluation.config.contestants import find_backbone
from evaluation.gpu_check.checks import Check, Settings, check_errors, check_instructions, named

# Neither side is a multiple of a stride or a window.
SIZE = (2, 3, 97, 131)
# Largest error relative to the largest value of a map or of a gradient. In half precision, roundings of
# about 30 layers add up.
BOUNDS = {'fp32': 1e-4, 'fp16': 0.05, 'bf16': 0.2}
# Boxes in the comparison of the operators of mmcv.
BOXES = 1000


def checks(settings: Settings) -> list[Check]:
    """Return the checks of the stage."""
    device = torch.device(settings.device)
    dtypes = ['fp32'] if settings.quick else list(BOUNDS)
    found = [
        Check(f'{mixer}_micro, {dtype}', partial(compare, f'{mixer}_micro', device, dtype))
        for dtype in dtypes
        for mixer in MIXERS
    ]
    return [*found, Check('operators of mmcv', partial(compare_mmcv, device))]


def compare(name: str, device: torch.device, dtype: str) -> dict[str, object]:
    """Compare the maps and the gradient of the images with those of plain PyTorch on the CPU in float32.

    Raises:
        FailedCheckError: an error is above the bound of the dtype.
        SkippedCheckError: the CPU has no instructions for the dtype.
    """
    check_instructions(device, dtype)
    settings = find_backbone(name, 'instance_segmentation').settings
    # With the small layer scales of a new network, the mixers would hardly change the maps.
    network = MODELS.build({**settings, 'layer_scale_init_value': 1.0})
    network.init_weights()
    # Without dropped paths and with running statistics.
    network.eval()
    images = torch.randn(SIZE)
    with mock.patch.dict(os.environ, {BACKENDS['cpu'].setting: REFERENCE}):
        truth = maps_and_gradient(copy.deepcopy(network), images, 'fp32')
    found = maps_and_gradient(network.to(device), images.to(device), dtype)
    names = [*(f'map {number}' for number in range(len(truth) - 1)), 'gradient of the images']
    return check_errors(named(names, found, truth), BOUNDS[dtype])


def maps_and_gradient(network: nn.Module, images: Tensor, dtype: str) -> list[Tensor]:
    """Return the maps, then the gradient of the images for a loss that weighs all values of the maps."""
    images = images.clone().requires_grad_()
    with torch.autocast(images.device.type, DTYPES[dtype], enabled=dtype != 'fp32'):
        maps = network(images)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(map_.shape, generator=generator).to(images.device) for map_ in maps]
    loss = sum((map_.float() * weight).sum() for map_, weight in zip(maps, weights, strict=True))
    return [*maps, *torch.autograd.grad(loss, images)]


def compare_mmcv(device: torch.device) -> dict[str, object]:
    """Compare NMS, RoIAlign and the focal loss with the CPU.

    Raises:
        FailedCheckError: an output or a gradient differs.
    """
    mmcv_ops.install()
    from mmcv.ops import nms, roi_align, sigmoid_focal_loss

    corners = torch.rand(BOXES, 2) * 100
    boxes = torch.cat([corners, corners + 1 + torch.rand(BOXES, 2) * 40], 1)
    scores, features = torch.rand(BOXES), torch.randn(2, 8, 64, 64)
    regions = torch.cat([torch.arange(BOXES)[:, None] % 2, boxes], 1)
    logits, labels = torch.randn(BOXES, 20), torch.randint(21, (BOXES,))

    def outputs(place: torch.device) -> list[Tensor]:
        moved = features.to(place).requires_grad_()
        pooled = roi_align(moved, regions.to(place), (7, 7), 0.5, 2, 'avg', True)
        scaled = logits.to(place).requires_grad_()
        loss = sigmoid_focal_loss(scaled, labels.to(place), 2.0, 0.25, None, 'sum')
        kept = nms(boxes.to(place), scores.to(place), 0.5)[1]
        gradients = torch.autograd.grad(pooled.square().sum() + loss, [moved, scaled])
        return [kept.double(), pooled, loss, *gradients]

    names = ['NMS', 'RoIAlign', 'focal loss', 'gradient of RoIAlign', 'gradient of the focal loss']
    errors = named(names, outputs(device), outputs(torch.device('cpu')))
    return check_errors(errors, BOUNDS['fp32'])
