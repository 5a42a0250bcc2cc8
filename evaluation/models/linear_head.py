"""Linear decode head, which measures what the maps of a frozen backbone already separate."""

import math
from collections.abc import Mapping, Sequence

import torch
from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from torch import Tensor, nn


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """Batch norm and a 1x1 convolution on concatenated maps, as in DINOv2 (arXiv 2304.07193).

    All maps are resized to the largest one. The segmentor resizes the logits to the size of the labels,
    in training and in evaluation.

    Args:
        in_channels: channels of each map.
        num_classes: number of classes.
        in_index: maps of the backbone to use.
        out_channels, threshold, ignore_index, align_corners, loss_decode, sampler: as in mmseg's
            `BaseDecodeHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        in_index: Sequence[int] = (0, 1, 2, 3),
        out_channels: int | None = None,
        threshold: float | None = None,
        ignore_index: int = 255,
        align_corners: bool = False,
        loss_decode: Mapping | Sequence[Mapping] = {'type': 'CrossEntropyLoss'},
        sampler: Mapping | None = None,
    ) -> None:
        super().__init__(
            in_channels=list(in_channels),
            channels=sum(in_channels),
            num_classes=num_classes,
            out_channels=out_channels,
            threshold=threshold,
            dropout_ratio=0.0,
            in_index=list(in_index),
            input_transform='multiple_select',
            loss_decode=loss_decode,
            ignore_index=ignore_index,
            sampler=sampler,
            align_corners=align_corners,
        )
        self.norm = nn.BatchNorm2d(self.channels)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return logits at the size of the largest map.

        Args:
            inputs: maps of the backbone, (B, C, H, W) each.

        Returns:
            (B, classes, H, W).
        """
        maps = self._transform_inputs(inputs)
        size = max((each.shape[2:] for each in maps), key=math.prod)
        maps = [
            resize(each, size, mode='bilinear', align_corners=self.align_corners)
            if each.shape[2:] != size
            else each
            for each in maps
        ]
        return self.conv_seg(self.norm(torch.cat(maps, dim=1)))
