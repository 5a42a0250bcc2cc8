"""Masks that a detector predicts, loads and is evaluated by, as its config says."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from evaluation.utils.errors import UserError

# Names under which mmdet's detectors keep heads that predict masks.
MASK_HEADS = ('mask_head', 'panoptic_head')
# Heads that predict masks under another name.
MASK_TYPES = ('RTMDetInsHead', 'RTMDetInsSepBNHead')
# These draw masks from boxes, so training needs none.
BOX_SUPERVISED = ('BoxInst',)
LOADER = 'LoadAnnotations'
# What `CocoMetric` may be asked for.
METRICS = ('bbox', 'segm')


def predicts_masks(model: Mapping) -> bool:
    """Whether the config of a detector has a head that predicts masks."""
    for settings in _dicts(model):
        if any(settings.get(name) is not None for name in MASK_HEADS):
            return True
        if _name(settings) in MASK_TYPES:
            return True
    return False


def loads_masks(pipeline: Sequence[Mapping]) -> bool:
    """Whether a pipeline loads masks, at any depth of its transforms."""
    return any(_is_mask_loader(step) for step in _dicts(pipeline))


def needs_masks(cfg: Config, loader: str, pipeline: Sequence[Mapping]) -> bool:
    """Whether the objects of a data set must have masks.

    Args:
        cfg: of the run.
        loader: name of the data loader that the data set belongs to.
        pipeline: of the data set.
    """
    if loads_masks(pipeline):
        return True
    return any('segm' in kinds for kinds in _evaluated(cfg, loader))


def config_needs_masks(cfg: Config) -> bool:
    """Whether any data loader of a config needs masks."""
    pipelines = [(name, cfg[name].dataset) for name in cfg if name.endswith('_dataloader') and cfg[name]]
    return predicts_masks(cfg.model) or any(
        needs_masks(cfg, name, [dataset]) for name, dataset in pipelines
    )


def check_masks(cfg: Config, loaders: Sequence[str]) -> None:
    """Check that model, pipelines and metrics agree on whether there are masks.

    Raises:
        UserError: the model trains masks that no transform loads, or a metric asks for masks that the
            model does not predict.
    """
    if cfg.get('default_scope') != 'mmdet':
        return
    is_masked = predicts_masks(cfg.model)
    training = 'train_dataloader'
    if training in loaders and is_masked and _name(cfg.model) not in BOX_SUPERVISED:
        steps = [*_dicts(cfg[training])]
        if any(_name(step) == LOADER for step in steps) and not loads_masks(steps):
            raise UserError(
                f'the model predicts masks, but the pipeline of {training} loads none; give its '
                f'{LOADER} with_mask=True, or model.roi_head.mask_head=None for a detector without masks'
            )
    for loader in loaders:
        if not is_masked and any('segm' in kinds for kinds in _evaluated(cfg, loader)):
            name = _evaluator_of(loader)
            raise UserError(
                f'{name}.metric asks for segm, but the model predicts no masks; give {name}.metric=bbox'
            )


def leave_out_unused_masks(cfg: Config) -> bool:
    """Let the pipelines of a detector without masks load none, unless a transform uses them.

    The page of Mask R-CNN loads masks; with `mask_head=None` nothing would look at them.

    Returns:
        Whether something was changed.
    """
    if cfg.get('default_scope') != 'mmdet' or predicts_masks(cfg.model):
        return False
    changed = False
    for name in cfg:
        if not name.endswith(('_dataloader', '_pipeline')) or cfg[name] is None:
            continue
        steps = [*_dicts(cfg[name])]
        if any(map(_uses_masks, steps)):
            continue
        for step in filter(_is_mask_loader, steps):
            step['with_mask'] = False
            changed = True
    return changed


def kinds_of_metric(metric: str | Sequence[str]) -> tuple[str, ...]:
    """Kinds of overlap that `metric` of `InstanceMetric` names.

    Raises:
        UserError: it names others than `bbox` and `segm`, or not `bbox`.
    """
    names = [metric] if isinstance(metric, str) else list(metric)
    if 'bbox' not in names or not {*names} <= {*METRICS}:
        raise UserError(
            f"metric={metric!r} of InstanceMetric: give 'bbox', or ['bbox', 'segm'] with masks"
        )
    return tuple(kind for kind in METRICS if kind in names)


def _evaluated(cfg: Config, loader: str) -> Iterator[Sequence[str]]:
    """Kinds of overlap that each COCO evaluator of a loader asks for."""
    evaluators = cfg.get(_evaluator_of(loader)) or []
    for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        metric = evaluator.get('metric')
        if _name(evaluator) == 'InstanceMetric':
            if metric is not None:
                yield kinds_of_metric(metric)
            else:
                yield METRICS if predicts_masks(cfg.model) else ('bbox',)
        elif _name(evaluator) == 'CocoMetric':
            yield [metric] if isinstance(metric, str) else metric or ['bbox']


def _evaluator_of(loader: str) -> str:
    return loader.replace('_dataloader', '_evaluator')


def _is_mask_loader(step: Mapping) -> bool:
    return _name(step) == LOADER and bool(step.get('with_mask'))


def _uses_masks(step: Mapping) -> bool:
    """Whether a transform works on masks for the sake of the boxes."""
    return _name(step) == 'CopyPaste' or bool(step.get('by_mask') or step.get('recompute_bbox'))


def _name(settings: Mapping) -> str:
    """What a dict of settings is built to, without the library."""
    kind = settings.get('type')
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def _dicts(value: Any) -> Iterator[dict]:
    """Every dict at any depth."""
    if isinstance(value, dict):
        yield value
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for each in value:
        yield from _dicts(each)
