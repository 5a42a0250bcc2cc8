"""Image classifier for mmengine's runner, and its preprocessor."""

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
    """Batch and normalize images, with random erasing in training (Zhong et al., arXiv 1708.04896).

    Args:
        mean, std: mean and standard deviation per channel, for values from 0 to 255, in the network's
            channel order.
        bgr_to_rgb: whether to convert images from BGR to RGB.
        random_erasing: probability of replacing a rectangle of an image with noise.
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
        """Stack and normalize images.

        Args:
            data: `inputs`, a list of (3, H, W) or a tensor (B, 3, H, W), 0 to 255; `data_samples`
                is optional.
            training: whether to apply random erasing.

        Returns:
            `inputs` (B, 3, H, W), normalized, and `data_samples`, unchanged or None.
        """
        data = self.cast_data(data)
        images = data['inputs']
        images = torch.stack(images) if isinstance(images, (list, tuple)) else images
        images = self.normalize(images)
        if training and self.random_erasing:
            images = RandomErasing(self.random_erasing, mode='pixel', device=images.device)(images)
        return {'inputs': images, 'data_samples': data.get('data_samples')}

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize images (B, 3, H, W), 0 to 255, in the network's channel order; differentiable."""
        images = images.flip(1) if self.bgr_to_rgb else images
        return (images.float() - self.mean) / self.std


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Image classifier. The whole network is called `backbone`, as in detectors and segmentors.

    Args:
        backbone: config of a network, (B, 3, H, W) -> logits (B, classes), such as `UnifiedClassifier`.
        data_preprocessor: config of the preprocessor.
        mixup: alpha of mixup (Zhang et al., arXiv 1710.09412); 0 to disable it.
        cutmix: alpha of CutMix (Yun et al., arXiv 1905.04899); 0 to disable it. If both are enabled,
            one is drawn for each batch.
        label_smoothing: share of the target that is spread evenly over all classes.
        init_cfg: mmengine's `init_cfg` of the classifier; the backbone has a separate one.
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
        """Compute logits, losses or predictions.

        Args:
            inputs: images (B, 3, H, W), normalized.
            data_samples: one sample per image, with `gt_label` for the loss.
            mode: `tensor` for logits (B, classes), `loss`, or `predict` for the samples with
                `pred_scores` (classes,), which sum to 1.
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
        """Return the mean cross-entropy, after mixup or CutMix if enabled.

        Args:
            inputs: images (B, 3, H, W); changed in place by mixup or CutMix.
            labels: class indices (B,).

        Raises:
            UserError: mixup or CutMix is enabled, and the batch size is odd.
        """
        if not (self.mixup or self.cutmix):
            logits = self.backbone(inputs)
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if len(labels) % 2:
            raise UserError(
                f'a batch of {len(labels)} images cannot be mixed in pairs; set an even '
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
