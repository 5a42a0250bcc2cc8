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
# Values that an optimizer keeps for each trained parameter; unknown optimizers count as AdamW.
MOMENTS = {'Adam': 2, 'AdamW': 2, 'SGD': 1}
UNKNOWN_MOMENTS = 2
# A temporary value for each trained parameter in the optimizer's step. With a group of parameters for
# each weight decay, fewer exist at the same time, so this is an upper bound.
_OPTIMIZER_TEMPORARY = 1


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of tensors on each GPU.

    Attributes:
        weights: parameters and buffers.
        moments: values that the optimizer keeps.
        average: copy of the weights that `EMAHook` keeps; 0 without it.
        buckets: copies of the gradients that `DistributedDataParallel` sends; 0 on one GPU.
        step: see `StepMemory`; includes the gradients.
        optimizer_step: gradients and temporary values of the optimizer's step.
    """

    weights: int
    moments: int
    average: int
    buckets: int
    step: int
    optimizer_step: int

    @property
    def lasting(self) -> int:
        """Bytes that remain between steps."""
        return self.weights + self.moments + self.average + self.buckets

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.lasting + max(self.step, self.optimizer_step)

    @property
    def needed(self) -> float:
        """Bytes that a card needs, with headroom."""
        return self.total * (1 + FRAGMENTATION) + CONTEXT


def training_memory(step: StepMemory, cfg: Mapping, gpus: int) -> TrainingMemory:
    """Add what lasts between steps to the memory of a step.

    Args:
        step: memory of a step.
        cfg: config of the training, of which optimizer, accumulation and hooks count.
        gpus: number of processes that train together.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    # While gradients accumulate, all of them exist from the beginning of a step.
    kept = step.trained if wrapper.get('accumulative_counts', 1) > 1 else 0
    return TrainingMemory(
        weights=step.weights,
        moments=moments_of(wrapper.get('optimizer') or {}) * step.trained,
        average=step.weights if _has_average(cfg) else 0,
        buckets=step.trained if gpus > 1 else 0,
        step=step.step + kept,
        optimizer_step=(1 + _OPTIMIZER_TEMPORARY) * step.trained,
    )


def moments_of(optimizer: Mapping) -> int:
    """Return the number of values that an optimizer keeps for each trained parameter."""
    kind = optimizer.get('type')
    if kind == 'SGD' and not optimizer.get('momentum'):
        return 0
    return MOMENTS.get(str(kind), UNKNOWN_MOMENTS) + bool(optimizer.get('amsgrad'))


def _has_average(cfg: Mapping) -> bool:
    hooks = [*(cfg.get('custom_hooks') or ()), *(cfg.get('default_hooks') or {}).values()]
    return any('EMAHook' in str(hook.get('type')) for hook in hooks if isinstance(hook, Mapping))
