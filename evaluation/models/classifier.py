"""A network with logits, trained and tested by mmengine's runner, and its preprocessor."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from evaluation.utils.errors import UserError


@MODELS.register_module()
class ClassificationPreprocessor(BaseDataPreprocessor):
    """Batches, normalizes, and in training erases rectangles (Zhong et al., arXiv 1708.04896).

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
            The same with `inputs` (B, 3, H, W), normalized.
        """
        data = self.cast_data(data)
        images = data['inputs']
        images = torch.stack(images) if isinstance(images, (list, tuple)) else images
        images = self.normalize(images)
        if training and self.random_erasing:
            images = RandomErasing(self.random_erasing, mode='pixel', device=images.device)(images)
        return {'inputs': images, 'data_samples': data.get('data_samples')}

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) of 0 to 255 -> normalized, in the network's order; differentiable."""
        images = images.flip(1) if self.bgr_to_rgb else images
        return (images.float() - self.mean) / self.std


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Image classifier; the network with its head is called `backbone`, as in detectors and segmentors.

    Args:
        backbone: config of a network, (B, 3, H, W) -> logits (B, classes), such as `UnifiedClassifier`.
        data_preprocessor: config of the preprocessor.
        mixup: alpha of mixup (Zhang et al., arXiv 1710.09412); 0 for none.
        cutmix: alpha of CutMix (Yun et al., arXiv 1905.04899); with both, each batch has one of them.
        label_smoothing: share of the target that all classes have alike.
        init_cfg: of mmengine; the backbone has its own.
    """

    def __init__(
        self,
        backbone: dict,
        data_preprocessor: dict | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        label_smoothing: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.mixup = mixup
        self.cutmix = cutmix
        self.label_smoothing = label_smoothing

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """Compute what mmengine asks for.

        Args:
            inputs: (B, 3, H, W), normalized.
            data_samples: with `gt_label`.
            mode: `tensor` for logits (B, classes), `loss`, or `predict` for the samples with
                `pred_scores` (classes,), which add up to 1.
        """
        if mode == 'loss':
            return {'loss': self.loss(inputs, torch.stack([s.gt_label for s in data_samples]))}
        logits = self.backbone(inputs)
        if mode == 'tensor':
            return logits
        for sample, scores in zip(data_samples, logits.float().softmax(1), strict=True):
            sample.pred_scores = scores
        return list(data_samples)

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy; of mixed images and labels where the model mixes.

        Args:
            inputs: (B, 3, H, W); changed where images are mixed.
            labels: (B,).

        Raises:
            UserError: images are mixed in pairs, and their number is odd.
        """
        if not (self.mixup or self.cutmix):
            logits = self.backbone(inputs)
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if len(labels) % 2:
            raise UserError(
                f'a batch of {len(labels)} images cannot be mixed in pairs; give an even '
                'train_dataloader.batch_size, or model.mixup=0 model.cutmix=0'
            )
        mix = Mixup(
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            label_smoothing=self.label_smoothing,
            num_classes=self.backbone.num_classes,
        )
        mixed, targets = mix(inputs, labels)
        return F.cross_entropy(self.backbone(mixed), targets)
