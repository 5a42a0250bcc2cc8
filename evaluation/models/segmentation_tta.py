"""Test-time augmentation of segmentation: the mean of the probabilities of all views."""

import torch
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.structures import SegDataSample


@MODELS.register_module()
class SegmentationTTAModel(SegTTAModel):
    """mmseg's `SegTTAModel`, right for one channel with a threshold as well.

    A segmentor of one channel returns probabilities. mmseg's class takes their sigmoid once more, which
    is 0.5 or more, so that every pixel passes a threshold below that.
    """

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image; outer list images, inner list views."""
        if self.module.out_channels > 1:
            return super().merge_preds(data_samples_list)
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: list[SegDataSample]) -> SegDataSample:
        probabilities = torch.stack([view.seg_logits.data for view in views]).mean(0)
        found = probabilities > self.module.decode_head.threshold
        merged = views[0].new()
        merged.pred_sem_seg = PixelData(data=found.to(torch.uint8))
        return merged
