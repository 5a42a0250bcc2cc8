"""Test-time augmentation: merge the predictions for several views of an image.

Detectors merge boxes by NMS and masks by vote; segmentors average the probabilities.
"""

import torch
from mmcv.ops import batched_nms
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip, bbox_overlaps
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.structures import SegDataSample
from torch import Tensor, nn


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Merge the instances found in resized and flipped views of an image.

    Boxes of all views go through non-maximum suppression by class. If the detector predicts masks, the
    mask of each remaining box is a vote, weighted by score, of the masks whose boxes overlap it.

    Args:
        module: detector, or its config.
        iou_threshold: IoU above which boxes of the same class are one instance.
        max_per_img: maximum number of instances per image.
        data_preprocessor: preprocessor, or its config; None for that of the detector.
    """

    def __init__(
        self,
        module: dict | nn.Module,
        iou_threshold: float,
        max_per_img: int,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(module, data_preprocessor)
        self.iou_threshold = iou_threshold
        self.max_per_img = max_per_img

    def test_step(self, data: dict[str, list]) -> list[DetDataSample]:
        """Predict the views of a batch and merge them.

        Args:
            data: `inputs` and `data_samples`, each with one list of images per view.
        """
        views = [dict(zip(data, view, strict=True)) for view in zip(*data.values(), strict=True)]
        return self.merge_preds(list(zip(*map(self._predict, views), strict=True)))

    def _predict(self, view: dict[str, list]) -> list[DetDataSample]:
        """Predict without telling the detector that the images are flipped.

        mmdet's cascade would flip its masks back, but not its boxes.
        """
        flips = [sample.get('flip', False) for sample in view['data_samples']]
        for sample in view['data_samples']:
            sample.set_metainfo({'flip': False})
        found = self.module.test_step(view)
        for sample, flip in zip(found, flips, strict=True):
            sample.set_metainfo({'flip': flip})
        return found

    def merge_preds(self, data_samples_list: list[list[DetDataSample]]) -> list[DetDataSample]:
        """Merge the views of each image, given as one list of views per image."""
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: list[DetDataSample]) -> DetDataSample:
        instances = InstanceData.cat([unflip(view) for view in views])
        merged = views[0].new()
        merged.pred_instances = merge_instances(instances, self.iou_threshold, self.max_per_img)
        return merged


def unflip(view: DetDataSample) -> InstanceData:
    """Return the instances of a view in the coordinates of the unflipped image."""
    found = view.pred_instances
    result = InstanceData(labels=found.labels, scores=found.scores)
    result.bboxes = found.bboxes
    if view.flip:
        result.bboxes = bbox_flip(found.bboxes, view.ori_shape, view.flip_direction)
    if 'masks' in found:
        axis = {'horizontal': -1, 'vertical': -2}[view.flip_direction] if view.flip else ()
        result.masks = found.masks.flip(axis)
    return result


def merge_instances(instances: InstanceData, iou_threshold: float, most: int) -> InstanceData:
    """Suppress boxes (N, 4) by class and vote on masks (N, H, W).

    Args:
        instances: instances with `bboxes`, `scores`, `labels` and, optionally, boolean `masks`.
        iou_threshold: IoU above which boxes of the same class are one instance.
        most: maximum number of instances.
    """
    if not len(instances):
        return instances
    nms = {'type': 'nms', 'iou_threshold': iou_threshold}
    _, keep = batched_nms(instances.bboxes, instances.scores, instances.labels, nms)
    kept = instances[keep[:most]]
    if 'masks' not in kept:
        return kept
    alike = bbox_overlaps(kept.bboxes, instances.bboxes) > iou_threshold
    alike &= kept.labels[:, None] == instances.labels[None]
    kept.masks = torch.stack([_vote(instances.masks[row], instances.scores[row]) for row in alike])
    return kept


def _vote(masks: Tensor, scores: Tensor) -> Tensor:
    """Return pixels whose masks have more than half of the total score, (N, H, W) -> (H, W)."""
    weight = (scores / scores.sum()).to(torch.float32)
    return torch.einsum('n,nhw->hw', weight, masks.to(torch.float32)) > 0.5


@MODELS.register_module()
class SegmentationTTAModel(SegTTAModel):
    """mmseg's `SegTTAModel`, fixed for one channel with a threshold.

    A segmentor with one channel returns probabilities. mmseg's class applies the sigmoid again, which
    makes them at least 0.5, so every pixel exceeds a lower threshold.
    """

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image, given as one list of views per image."""
        if self.module.out_channels > 1:
            return super().merge_preds(data_samples_list)
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: list[SegDataSample]) -> SegDataSample:
        probabilities = torch.stack([view.seg_logits.data for view in views]).mean(0)
        found = probabilities > self.module.decode_head.threshold
        merged = views[0].new()
        merged.pred_sem_seg = PixelData(data=found.to(torch.uint8))
        return merged
