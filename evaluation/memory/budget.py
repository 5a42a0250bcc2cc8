"""Memory that a training needs on each GPU, and the cards that it fits on."""

from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.memory.prediction import StepMemory

# Memory of the cards in GB (10^9 bytes).
CARDS = (16, 24, 40, 80)
GB = 10**9
# CUDA context, workspaces of cuDNN and cuBLAS, buffers of NCCL.
CONTEXT = 1.5 * GB
# Free memory between tensors that is too small for the next one, as a fraction of the tensors.
FRAGMENTATION = 0.1
# Numbers that an optimizer keeps for each trained one; unknown optimizers count as AdamW.
_MOMENTS = {'Adam': 2, 'AdamW': 2, 'SGD': 1}
# AdamW's step on a GPU has one more number for each trained one, while it computes.
_OPTIMIZER_TEMPORARY = 1


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of tensors on each GPU.

    Attributes:
        weights: parameters and buffers.
        moments: numbers that the optimizer keeps.
        buckets: copies of the gradients that `DistributedDataParallel` sends; 0 on one GPU.
        step: see `StepMemory`; includes the gradients.
        optimizer_step: gradients and temporary numbers of the optimizer's step.
    """

    weights: int
    moments: int
    buckets: int
    step: int
    optimizer_step: int

    @property
    def lasting(self) -> int:
        """Bytes that remain between steps."""
        return self.weights + self.moments + self.buckets

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.lasting + max(self.step, self.optimizer_step)

    @property
    def needed(self) -> float:
        """Bytes that a card needs, with headroom."""
        return self.total * (1 + FRAGMENTATION) + CONTEXT


def training_memory(step: StepMemory, optimizer: Mapping, gpus: int) -> TrainingMemory:
    """Add what lasts between steps to the memory of a step.

    Args:
        step: memory of a step.
        optimizer: config of the optimizer.
        gpus: number of processes that train together.
    """
    moments = _MOMENTS.get(str(optimizer.get('type')), 2)
    if optimizer.get('type') == 'SGD' and not optimizer.get('momentum'):
        moments = 0
    return TrainingMemory(
        weights=step.weights,
        moments=moments * step.trained,
        buckets=step.trained if gpus > 1 else 0,
        step=step.step,
        optimizer_step=(1 + _OPTIMIZER_TEMPORARY) * step.trained,
    )
