"""Memory of a config's training as it is, with mixed precision, and with recomputed blocks."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from mmengine.config import Config, ConfigDict

from backbones import BackboneError
from evaluation.benchmark.passes import Size
from evaluation.config.backbone_maps import place_of
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
# Words of an error to show; PyTorch's may have hundreds.
MOST_WORDS = 40


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
        UserError: the model does not run on this size, or its loss needs values.
    """
    scope = cfg.get('default_scope')
    protocol = (cfg.get('recipe') or {}).get('protocol')
    found = {}
    with seeded(0), quiet():
        for name, (dtype, recomputes) in VARIANTS.items():
            model = copy.deepcopy(cfg.model)
            if not _recompute(model, scope, recomputes) and recomputes:
                continue
            step = _step(model, scope, size, dtype, objects, protocol)
            found[name] = training_memory(step, cfg, gpus)
    return ConfigMemory(size, found)


def check_model(cfg: Config) -> None:
    """Check that the model of a config can be built.

    Raises:
        UserError: it cannot.
    """
    with seeded(0), quiet():
        build_without_values(cfg.model, cfg.get('default_scope'))


def _recompute(model: ConfigDict, scope: str | None, recomputes: bool) -> bool:
    """Set `with_cp` of the backbone, and return whether it has this option."""
    if not isinstance(model.get('backbone'), Mapping):
        return False
    before = copy.deepcopy(model.backbone)
    model.backbone.with_cp = recomputes
    try:
        build_without_values(model, scope)
    except (BackboneError, UserError):
        model.backbone = before
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
    except UserError:
        raise
    except BackboneError as error:
        raise UserError(f'a training step on {size} cannot be predicted: {error}') from error
    except Exception as error:  # Models of users fail in many ways.
        reason = ' '.join(f'{type(error).__name__}: {error}'.split()[:MOST_WORDS])
        if 'Device Propagation' in reason:
            reason = 'an operation mixes tensors of the CPU and of the GPU'
        raise UserError(
            f'a training step on {size} cannot be predicted: {reason} ({place_of(error)})'
        ) from error
