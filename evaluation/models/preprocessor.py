"""From images in whole numbers to what a classifier is trained on."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from timm.data.random_erasing import RandomErasing
from torch import Tensor


@MODELS.register_module()
class ClassificationPreprocessor(BaseDataPreprocessor):
    """Batches, normalises, and in training erases rectangles (Zhong et al., arXiv 1708.04896).

    Args:
        mean, std: of each channel, on the scale of 0 to 255, in the order that the network takes.
        bgr_to_rgb: whether images come in BGR order and the network takes RGB.
        random_erasing: probability that noise takes the place of a rectangle of an image.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        bgr_to_rgb: bool = False,
        random_erasing: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.bgr_to_rgb = bgr_to_rgb
        self.random_erasing = random_erasing

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make one tensor of the images.

        Args:
            data: `inputs`, a list of (3, H, W) or a tensor (B, 3, H, W), 0 to 255, and maybe
                `data_samples`.
            training: whether to erase.

        Returns:
            The same with `inputs` (B, 3, H, W), normalised.
        """
        data = self.cast_data(data)
        images = data['inputs']
        images = torch.stack(images) if isinstance(images, (list, tuple)) else images
        images = self.normalize(images)
        if training and self.random_erasing:
            images = RandomErasing(self.random_erasing, mode='pixel', device=images.device)(images)
        return {'inputs': images, 'data_samples': data.get('data_samples')}

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) of 0 to 255 -> normalised, in the network's order; differentiable."""
        images = images.flip(1) if self.bgr_to_rgb else images
        return (images.float() - self.mean) / self.std
