"""Memory of a config's training as it is, with mixed precision, and with recomputed blocks."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from mmengine.config import Config, ConfigDict

from backbones import BackboneError
from evaluation.benchmark.passes import Size
from evaluation.memory.budget import TrainingMemory, training_memory
from evaluation.memory.prediction import StepMemory, predict
from evaluation.utils.errors import UserError, quiet
from evaluation.utils.meta_device import build_without_values
from evaluation.utils.random_state import seeded

# dtype and `with_cp` of each variant, in the order in which to try them.
VARIANTS = {
    'fp32': ('fp32', False),
    'amp': ('fp16', False),
    'cp': ('fp32', True),
    'amp + cp': ('fp16', True),
}


@dataclass(frozen=True)
class ConfigMemory:
    """Memory of the variants of a training.

    Attributes:
        size: batch on each GPU.
        variants: memory by key of `VARIANTS`; without `cp` if the backbone has no `with_cp`.
    """

    size: Size
    variants: Mapping[str, TrainingMemory]


def memory_of_config(cfg: Config, size: Size, gpus: int, objects: int) -> ConfigMemory:
    """Predict the memory of all variants of a config, without changing random states.

    Args:
        cfg: config with a model; not changed.
        size: batch on each GPU.
        gpus: number of GPUs that train together.
        objects: number of objects on each image, for a detector.

    Raises:
        UserError: the model cannot be built or does not run on this size, or its loss needs values.
    """
    scope = cfg.get('default_scope')
    protocol = (cfg.get('recipe') or {}).get('protocol')
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    found = {}
    with seeded(0), quiet():
        build_without_values(cfg.model, scope)
        for name, (dtype, recomputes) in VARIANTS.items():
            model = copy.deepcopy(cfg.model)
            if recomputes and not _recompute(model, scope):
                continue
            step = _step(model, scope, size, dtype, objects, protocol)
            found[name] = training_memory(step, optimizer, gpus)
    return ConfigMemory(size, found)


def _recompute(model: ConfigDict, scope: str | None) -> bool:
    """Set `with_cp` of the backbone, and return whether it has this option."""
    if not isinstance(model.get('backbone'), Mapping):
        return False
    model.backbone.with_cp = True
    try:
        build_without_values(model, scope)
    except (BackboneError, UserError):
        return False
    return True


def _step(
    model: ConfigDict,
    scope: str | None,
    size: Size,
    dtype: str,
    objects: int,
    protocol: str | None,
) -> StepMemory:
    try:
        return predict(model, scope, size, dtype, objects, protocol)
    except (
        AssertionError,
        AttributeError,
        BackboneError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = (str(error).strip().splitlines() or ['its loss depends on values of tensors'])[0]
        raise UserError(f'a training step on {size} cannot be predicted: {reason}') from error
