"""Stage `memory`: measured memory of the short trainings beside the prediction of `tools/memory.py`."""

from collections.abc import Mapping
from functools import partial

from evaluation.config.contestants import open_config
from evaluation.gpu_check.checks import (
    Check,
    FailedCheckError,
    Settings,
    SkippedCheckError,
    read_outcomes,
)
from evaluation.gpu_check.suite_commands import ROOT
from evaluation.gpu_check.trainings import MODELS
from evaluation.memory.budget import GB, training_memory
from evaluation.memory.prediction import predict
from evaluation.memory.training_size import training_size

# Modes of the stage `training`, by their dtype.
MODES = ('fp32', 'fp16')
# Each takes a few seconds of the CPU.
COMPARED = MODELS[:3]
# Objects on the generated scenes, at most.
OBJECTS = 10


def checks(settings: Settings) -> list[Check]:
    """Return the checks of the stage."""
    return [
        Check(f'{task}, {mixer}, {mode}', partial(compare, settings, task, mixer, mode))
        for task, mixer in COMPARED
        for mode in MODES
    ]


def compare(settings: Settings, task: str, mixer: str, mode: str) -> Mapping[str, float]:
    """Return the measured and the predicted memory of a training in bytes.

    Raises:
        FailedCheckError: the training needed more than the prediction says with its headroom.
        SkippedCheckError: no training was measured at the size of the recipe.
    """
    if settings.quick:
        raise SkippedCheckError('not for small images, whose memory is mostly that of kernels')
    found = read_outcomes(settings.folder / 'training.jsonl')
    name = f'{task}, {mixer}, {mode}'
    figures = next((each.figures for each in found if each.check == name), {})
    measured = figures.get('memory_bytes')
    if not measured:
        raise SkippedCheckError('needs a training of the stage `training` on a GPU')
    config = ROOT / f'configs/_base_/check_gpu_{task}.py'
    cfg, _ = open_config(str(config), f'{mixer}_tiny', {})
    size = training_size(cfg, None, None)
    step = predict(cfg.model, cfg.default_scope, size, mode, OBJECTS)
    predicted = training_memory(step, cfg, gpus=1)
    if measured > predicted.needed:
        raise FailedCheckError(
            f'{measured / GB:.1f} GB measured; {predicted.total / GB:.1f} predicted, '
            f'{predicted.needed / GB:.1f} with headroom'
        )
    return {'measured': measured, 'predicted': predicted.total, 'needed': predicted.needed}
