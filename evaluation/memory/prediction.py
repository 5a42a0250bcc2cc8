"""Memory of a training step, predicted without a GPU or measured on the CPU."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from evaluation.benchmark.passes import DTYPES, Size, peak_on_cpu
from evaluation.memory.batch import training_batch
from evaluation.memory.cascades import cascade_without_values
from evaluation.memory.live import LiveMemory
from evaluation.memory.shapes_only import shapes_only
from evaluation.models.frozen import freeze_backbone

GPU = torch.device('cuda')


@dataclass(frozen=True)
class StepMemory:
    """Bytes of the tensors of one process in a training step.

    Attributes:
        weights: parameters and buffers.
        trained: parameters that train, which have gradients and moments.
        step: peak of images, activations, gradients and temporary tensors in the forward and backward
            pass.
    """

    weights: int
    trained: int
    step: int


def predict(
    model: Mapping,
    scope: str | None,
    size: Size,
    dtype: str,
    objects: int,
    protocol: str | None = None,
    device: torch.device = GPU,
) -> StepMemory:
    """Predict the memory of a training step with tensors that have shapes but no values.

    Args:
        model: config of a detector, segmentor or classifier; not changed.
        scope: `default_scope` of the whole config.
        size: batch of one process.
        dtype: key of `DTYPES`; other than fp32, autocast as with `--amp`.
        objects: number of objects on each image, for a detector.
        protocol: `frozen` or `linear`; None if the whole network trains.
        device: device whose operators run; it need not exist.
    """
    with shapes_only(device), cascade_without_values():
        network = build_network(model, scope, protocol)
        existing = [*network.parameters(), *network.buffers()]
        with LiveMemory(device, existing) as memory:
            run_step(network, size, dtype, objects, device)
        return _memory_of(network, memory.peak)


def measure_on_cpu(
    model: Mapping,
    scope: str | None,
    size: Size,
    dtype: str,
    objects: int,
    protocol: str | None = None,
) -> StepMemory:
    """Measure the memory of a real training step on the CPU, with random weights; see `predict`."""
    device = torch.device('cpu')
    network = build_network(model, scope, protocol)
    peak = peak_on_cpu(lambda: run_step(network, size, dtype, objects, device))
    return _memory_of(network, peak)


def build_network(model: Mapping, scope: str | None, protocol: str | None = None) -> nn.Module:
    """Build a model in train mode, with a frozen backbone if the protocol says so."""
    with DefaultScope.overwrite_default_scope(scope):
        network = MODELS.build(copy.deepcopy(model))
    if protocol:
        freeze_backbone(network, protocol)
    return network.train()


def run_step(model: nn.Module, size: Size, dtype: str, objects: int, device: torch.device) -> None:
    """Run the forward and backward pass of a model in train mode on a generated batch."""
    torch.autograd.backward(_loss(model, size, dtype, objects, device))


def _loss(model: nn.Module, size: Size, dtype: str, objects: int, device: torch.device) -> Tensor:
    images, samples = training_batch(model, size.batch, size.height, size.width, objects, device)
    mixed = DTYPES[dtype]
    with torch.autocast(device.type, mixed, enabled=mixed != torch.float32):
        losses = model(images, samples, mode='loss')
    return model.parse_losses(losses)[0]


def _memory_of(model: nn.Module, step: int) -> StepMemory:
    tensors = [*model.parameters(), *model.buffers()]
    trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
    return StepMemory(sum(map(_bytes, tensors)), sum(map(_bytes, trained)), step)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
