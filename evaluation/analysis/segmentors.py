"""Segmentation: the class of every pixel against the label map."""

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
from evaluation.metrics.mean_iou import count_areas
from evaluation.utils.errors import UserError

AREAS = 'areas'


class Segmentation:
    """Truths are label maps (H, W), uint8, 255 where none is; predictions class maps (H, W), uint8.

    Args:
        classes: how many the model has.
    """

    name = 'segmentation'
    is_cropped = False
    loss_takes_one = False

    def __init__(self, classes: int) -> None:
        self.classes = classes

    @classmethod
    def of(cls, model: nn.Module) -> 'Segmentation | None':
        """Return the adapter of a model; None where it is of another task."""
        return cls(model.num_classes) if isinstance(model, BaseSegmentor) else None

    def samples(self, cfg: Config, limit: int | None) -> Samples:
        """The images of the config's test data set and their label maps, resized as it says.

        Maps are resized too, by nearest neighbours, so that truth and prediction are in one frame.

        Raises:
            UserError: the pipeline loads no label maps.
        """

        def make(results: dict) -> Sample:
            return Sample(results['img_path'], results['img'], results['gt_seg_map'].astype(np.uint8))

        return open_samples(cfg, limit, loaders_first(cfg), make)

    def predict(self, model: nn.Module, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The class of every pixel (H, W), uint8, of each image (H, W, 3), all of one size."""
        size = images[0].shape[:2]
        facts = {'img_shape': size, 'ori_shape': size, 'pad_shape': size}
        samples = [SegDataSample(metainfo=facts) for _ in images]
        data = model.data_preprocessor({'inputs': as_tensors(images), 'data_samples': samples})
        with torch.no_grad():
            results = model(**data, mode='predict')
        return [each.pred_sem_seg.data[0].to(torch.uint8).cpu().numpy() for each in results]

    def measure(self, prediction: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Areas (intersection, union, prediction and label, classes), in pixels."""
        maps = (torch.from_numpy(np.ascontiguousarray(each)).long() for each in (prediction, truth))
        return {AREAS: count_areas(*maps, self.classes).numpy()}

    def combined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Their sum, in their order."""
        return sum(arrays[1:], start=arrays[0])

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """`mIoU` over classes that either has, and `aAcc`, pixels that agree, in percent."""
        intersection, union, _, labelled = arrays[AREAS].astype(np.float64)
        present = union > 0
        iou = intersection[present] / union[present]
        return {
            'mIoU': 100 * float(iou.mean()) if present.any() else float('nan'),
            'aAcc': 100 * float(intersection.sum() / labelled.sum()) if labelled.any() else float('nan'),
        }


def loaders_first(cfg: Config) -> list[dict]:
    """The test pipeline without packing; what loads comes first, so that maps are resized as images.

    Raises:
        UserError: it loads no label maps.
    """
    steps = [step for step in test_dataset(cfg).pipeline if not step_name(step).startswith('Pack')]
    if not any(step_name(step).startswith('Load') for step in steps[1:]):
        raise UserError(
            f'the pipeline of test_dataloader in {cfg.filename} loads no label maps; '
            'add LoadCheckedSegmentationMap'
        )
    return sorted(steps, key=lambda step: not step_name(step).startswith('Load'))
