"""Checked loading in place of OpenMMLab's, wherever the suite builds a data set.

Test pipelines name their loaders as OpenMMLab's configs do, because the inferencers of mmdet and mmseg
look for these names. The suite itself loads through its own checks: otherwise a truncated JPEG would be
half grey, without an error.
"""

from collections.abc import Sequence
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from evaluation.data.class_counts import class_names
from evaluation.data.loading import LoadCheckedImage

IMAGE_LOADER = 'LoadImageFromFile'
TRUTH_LOADERS = ('LoadAnnotations', 'LoadCheckedSegmentationMap', 'LoadPanopticAnnotations')


def step_name(step: dict) -> str:
    """Return the name of a transform in a config, without its library."""
    kind = step['type']
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition('.')[2]


def with_checked_loading(dataset: Any, scope: str | None = None) -> Any:
    """Replace the loaders in the pipeline of a data set, and of those that it wraps.

    Args:
        dataset: config of a data set, which stays as it is; anything else is returned.
        scope: library of its transforms; default: the current scope.
    """
    if not isinstance(dataset, dict):
        return dataset
    if scope is None:
        current = DefaultScope.get_current_instance()
        scope = current.scope_name if current else 'mmengine'
    changed = type(dataset)(**dataset)
    if 'dataset' in changed:
        changed['dataset'] = with_checked_loading(changed['dataset'], scope)
    if 'datasets' in changed:
        changed['datasets'] = [with_checked_loading(part, scope) for part in changed['datasets']]
    if 'pipeline' in changed:
        changed['pipeline'] = checked_pipeline(changed, scope)
    return changed


def checked_pipeline(dataset: dict, scope: str) -> list:
    """Return the pipeline of a data set with checked loaders."""

    def checked(step: Any) -> Any:
        if isinstance(step, (list, tuple)):
            return [checked(part) for part in step]
        if not isinstance(step, dict) or 'type' not in step:
            return step
        # Views of test-time augmentation are lists of lists of transforms.
        if isinstance(step.get('transforms'), (list, tuple)):
            return type(step)(**{**step, 'transforms': checked(step['transforms'])})
        if step_name(step) == IMAGE_LOADER:
            # The default of OpenMMLab's loader, which differs from that of the suite's.
            step = {'color_type': 'color', **step}
            return ConfigDict(**{**step, 'type': LoadCheckedImage.__name__})
        # mmdet's transform of this name reads no file.
        if step_name(step) == 'LoadAnnotations' and scope == 'mmseg':
            return _checked_map(step, len(class_names(ConfigDict(dataset), scope)))
        return step

    return checked(dataset['pipeline'])


def _checked_map(step: dict, num_classes: int) -> dict:
    # mmseg is imported only where its loader is needed.
    from evaluation.data.segmentation_map import LoadCheckedSegmentationMap

    return type(step)(
        **{**step, 'type': LoadCheckedSegmentationMap.__name__, 'num_classes': num_classes}
    )


def without_truth(pipeline: Sequence) -> list:
    """Return a pipeline without the transforms that load annotations, for images without any."""
    kept = []
    for step in pipeline:
        if isinstance(step, (list, tuple)):
            inner = without_truth(step)
            # A list that is empty would leave test-time augmentation without any view.
            if inner:
                kept.append(inner)
        elif isinstance(step.get('transforms'), (list, tuple)):
            kept.append(type(step)(**{**step, 'transforms': without_truth(step['transforms'])}))
        elif step_name(step) not in TRUTH_LOADERS:
            kept.append(step)
    return kept
