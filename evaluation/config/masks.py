"""Masks in the config of a detector: predicted, loaded and evaluated."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from evaluation.utils.errors import UserError

# Attributes of mmdet's detectors for heads that predict masks.
MASK_HEADS = ('mask_head', 'panoptic_head')
# Heads that predict masks but have other attributes.
MASK_TYPES = ('RTMDetInsHead', 'RTMDetInsSepBNHead')
# Detectors that learn masks from boxes, so training needs no masks.
BOX_SUPERVISED = ('BoxInst',)
LOADER = 'LoadAnnotations'
# Metrics of `CocoMetric`.
METRICS = ('bbox', 'segm')


def predicts_masks(model: Mapping) -> bool:
    """Return whether the config of a detector has a head that predicts masks."""
    for settings in _dicts(model):
        if any(settings.get(name) is not None for name in MASK_HEADS):
            return True
        if _name(settings) in MASK_TYPES:
            return True
    return False


def loads_masks(pipeline: Sequence[Mapping]) -> bool:
    """Return whether a pipeline loads masks, at any depth of its transforms."""
    return any(_is_mask_loader(step) for step in _dicts(pipeline))


def needs_masks(cfg: Config, loader: str, pipeline: Sequence[Mapping]) -> bool:
    """Return whether the objects of a data set must have masks.

    Args:
        cfg: config of the run.
        loader: name of the data loader that the data set belongs to.
        pipeline: pipeline of the data set.
    """
    if loads_masks(pipeline):
        return True
    return any('segm' in kinds for kinds in _evaluated(cfg, loader))


def config_needs_masks(cfg: Config) -> bool:
    """Return whether any data loader of a config needs masks."""
    pipelines = [(name, cfg[name].dataset) for name in cfg if name.endswith('_dataloader') and cfg[name]]
    return predicts_masks(cfg.model) or any(
        needs_masks(cfg, name, [dataset]) for name, dataset in pipelines
    )


def check_masks(cfg: Config, loaders: Sequence[str]) -> None:
    """Check that model, pipelines and metrics agree on masks.

    Raises:
        UserError: the model trains on masks that no transform loads, or a metric needs masks that the
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
                f'{LOADER} with_mask=True, or use model.roi_head.mask_head=None for a detector without '
                'masks'
            )
    for loader in loaders:
        if not is_masked and any('segm' in kinds for kinds in _evaluated(cfg, loader)):
            name = _evaluator_of(loader)
            raise UserError(
                f'{name}.metric asks for segm, but the model predicts no masks; give {name}.metric=bbox'
            )


def leave_out_unused_masks(cfg: Config) -> bool:
    """Stop loading masks for a detector without masks, unless a transform uses them.

    The Mask R-CNN page loads masks; with `mask_head=None` nothing would use them.

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
        changed |= load_no_masks(steps)
    return changed


def load_no_masks(pipeline: Sequence[Mapping | None]) -> bool:
    """Turn off the loading of masks in a pipeline, at any depth; return whether it was on."""
    loaders = [step for step in _dicts(pipeline) if _is_mask_loader(step)]
    for step in loaders:
        step['with_mask'] = False
    return bool(loaders)


def kinds_of_metric(metric: str | Sequence[str]) -> tuple[str, ...]:
    """Return the kinds of overlap in `metric` of `InstanceMetric`.

    Raises:
        UserError: `bbox` is missing, or there is a kind other than `bbox` and `segm`.
    """
    names = [metric] if isinstance(metric, str) else list(metric)
    if 'bbox' not in names or not {*names} <= {*METRICS}:
        raise UserError(
            f"metric={metric!r} of InstanceMetric: give 'bbox', or ['bbox', 'segm'] with masks"
        )
    return tuple(kind for kind in METRICS if kind in names)


def _evaluated(cfg: Config, loader: str) -> Iterator[Sequence[str]]:
    """Yield the kinds of overlap of each COCO evaluator of a loader."""
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
    """Return whether a transform uses masks to compute boxes."""
    return _name(step) == 'CopyPaste' or bool(step.get('by_mask') or step.get('recompute_bbox'))


def _name(settings: Mapping) -> str:
    """Return the class name in a dict of settings, without its library."""
    kind = settings.get('type')
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def _dicts(value: Any) -> Iterator[dict]:
    """Yield every dict at any depth."""
    if isinstance(value, dict):
        yield value
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for each in value:
        yield from _dicts(each)
