"""Adapter for segmentation: compares the class of every pixel with the label map."""

import backbones  # noqa: F401  isort: skip  (before mmdet, which needs its operators)
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmseg.models import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import nn

from evaluation.analysis.adapter import Sample, Samples, as_tensors, open_samples, test_dataset
from evaluation.data.dataset_config import step_name
from evaluation.metrics.class_metrics import count_areas
from evaluation.utils.errors import UserError

AREAS = 'areas'


class Segmentation:
    """Adapter for segmentation.

    Truths are label maps (H, W), uint8, 255 for unlabeled; predictions are class maps (H, W), uint8.

    Args:
        classes: number of classes.
    """

    name = 'segmentation'
    is_cropped = False
    loss_takes_one = False

    def __init__(self, classes: int) -> None:
        self.classes = classes

    @classmethod
    def of(cls, model: nn.Module) -> 'Segmentation | None':
        """Return the adapter for a model; None if it has a different task."""
        return cls(model.num_classes) if isinstance(model, BaseSegmentor) else None

    def samples(self, cfg: Config, limit: int | None) -> Samples:
        """Return the images of the config's test data set, resized by its pipeline, and label maps.

        Maps are also resized, by nearest neighbor, so that truth and prediction have the same frame.

        Raises:
            UserError: the pipeline loads no label maps.
        """

        def make(results: dict) -> Sample:
            return Sample(results['img_path'], results['img'], results['gt_seg_map'].astype(np.uint8))

        return open_samples(cfg, limit, loaders_first(cfg), make)

    def predict(self, model: nn.Module, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return class maps (H, W), uint8, for images (H, W, 3), all of the same size."""
        size = images[0].shape[:2]
        facts = {'img_shape': size, 'ori_shape': size, 'pad_shape': size}
        samples = [SegDataSample(metainfo=facts) for _ in images]
        data = model.data_preprocessor({'inputs': as_tensors(images), 'data_samples': samples})
        with torch.no_grad():
            results = model(**data, mode='predict')
        return [each.pred_sem_seg.data[0].to(torch.uint8).cpu().numpy() for each in results]

    def measure(self, prediction: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Return areas in pixels, (4, classes): intersection, union, prediction, label."""
        maps = (torch.from_numpy(np.ascontiguousarray(each)).long() for each in (prediction, truth))
        return {AREAS: count_areas(*maps, self.classes).numpy()}

    def combined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Return the sum of the arrays, in order."""
        return sum(arrays[1:], start=arrays[0])

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return `mIoU`, over classes in either map, and the pixel accuracy `aAcc`, in percent."""
        intersection, union, _, labeled = arrays[AREAS].astype(np.float64)
        present = union > 0
        iou = intersection[present] / union[present]
        return {
            'mIoU': 100 * float(iou.mean()) if present.any() else float('nan'),
            'aAcc': 100 * float(intersection.sum() / labeled.sum()) if labeled.any() else float('nan'),
        }


def loaders_first(cfg: Config) -> list[dict]:
    """Return the test pipeline without packing, loaders first, so that label maps are also resized.

    Raises:
        UserError: the pipeline loads no label maps.
    """
    steps = [step for step in test_dataset(cfg).pipeline if not step_name(step).startswith('Pack')]
    if not any(step_name(step).startswith('Load') for step in steps[1:]):
        raise UserError(
            f'the pipeline of test_dataloader in {cfg.filename} loads no label maps; '
            'add LoadCheckedSegmentationMap'
        )
    return sorted(steps, key=lambda step: not step_name(step).startswith('Load'))
