"""From a file to what a classifier takes, with timm's augmentation."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from mmengine.structures import BaseDataElement
from PIL import Image
from timm.data import create_transform


@TRANSFORMS.register_module()
class TimmTransforms(BaseTransform):
    """Crop, flip and colours as timm's `create_transform` makes them, on values of 0 to 255.

    Normalisation and random erasing are the model's preprocessor's, on its device.

    Args:
        input_size: side of the square image, in pixels.
        is_training: whether images are cropped and changed at random, or resized and cropped in their
            middle.
        interpolation: `bicubic`, `bilinear` or `random`.
        crop_pct: in tests, `input_size` as a share of the side that the image is resized to before.
        auto_augment: in training, such as `rand-m9-mstd0.5-inc1`; None for none.
        color_jitter: in training without `auto_augment`, which has colours of its own.
        scale: in training, least and largest share of the image's area in a crop.
    """

    def __init__(
        self,
        input_size: int,
        is_training: bool,
        interpolation: str = 'bicubic',
        crop_pct: float = 0.875,
        auto_augment: str | None = None,
        color_jitter: float = 0.0,
        scale: tuple[float, float] = (0.08, 1.0),
    ) -> None:
        self.input_size = input_size
        self.interpolation = interpolation
        self.crop_pct = crop_pct
        self.transforms = create_transform(
            input_size,
            is_training=is_training,
            interpolation=interpolation,
            crop_pct=crop_pct,
            auto_augment=auto_augment,
            color_jitter=color_jitter,
            scale=tuple(scale),
            use_prefetcher=True,
        )

    def transform(self, results: dict) -> dict:
        """Replace `img`, (H, W, 3), by (3, input_size, input_size), both of uint8 in BGR order."""
        image = Image.fromarray(np.ascontiguousarray(results['img'][..., ::-1]))
        results['img'] = torch.as_tensor(np.asarray(self.transforms(image))).flip(0)
        results['img_shape'] = tuple(results['img'].shape[1:])
        return results


@TRANSFORMS.register_module()
class PackClassification(BaseTransform):
    """Image and label as mmengine's runner hands them to a model."""

    def transform(self, results: dict) -> dict:
        """Return `inputs` (3, H, W), and `data_samples` with `gt_label`, if any, and the path."""
        sample = BaseDataElement(
            metainfo={key: results[key] for key in ('img_path', 'img_shape', 'ori_shape')}
        )
        if 'gt_label' in results:
            sample.gt_label = torch.tensor(results['gt_label'])
        return {'inputs': results['img'], 'data_samples': sample}
