"""ImageNet and data sets in its layouts: images with one label each, augmented by timm."""

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.structures import BaseDataElement
from PIL import Image
from timm.data import create_transform
from torchvision.datasets.folder import IMG_EXTENSIONS

from evaluation.data.image_files import leads_out, visible_files_below
from evaluation.utils.errors import UserError

LAYOUT = 'train/ and val/ with one folder per class, or meta/train.txt and meta/val.txt'
# Upper limit of a label in a list of images.
MOST_CLASSES = 1_000_000
# Split whose class folders define the labels of all splits.
REFERENCE_SPLIT = 'train'


def labeled_images(root: Path, split: str) -> list[tuple[str, int]]:
    """Return names, relative to the split's folder, and labels of all images of a split.

    If there is a `meta/<split>.txt`, they are read from its lines, each with a name and a label
    (OpenMMLab's layout). Otherwise each class has a folder, and its index in alphabetical order is the
    label (torchvision's ImageFolder).

    Args:
        root: path of the data set.
        split: `train` or `val`.

    Raises:
        UserError: neither layout is found, a line is malformed, or a class folder has no image.
    """
    listing = root / 'meta' / f'{split}.txt'
    if listing.is_file():
        return _listed(listing)
    classes = class_folders(root / split)
    if not classes:
        raise UserError(f'{root} has no {split} images with labels; the data root must have {LAYOUT}')
    labels = {name: label for label, name in enumerate(_reference(root, split, classes))}
    return [entry for name in classes for entry in _images_of(root / split, name, labels[name])]


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the subfolders of a folder."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _class_names(root: Path, split: str, images: Sequence[tuple[str, int]]) -> list[str]:
    """Return the class names by label: the names of their folders, or else the labels."""
    count = max((label for _, label in images), default=-1) + 1
    for folder in (split, REFERENCE_SPLIT):
        names = class_folders(root / folder)
        if len(names) >= count:
            return names
    return [str(label) for label in range(count)]


def _reference(root: Path, split: str, classes: Sequence[str]) -> Sequence[str]:
    """Return the classes of the training split, so that a class missing here does not shift labels."""
    known = class_folders(root / REFERENCE_SPLIT)
    strange = sorted({*classes} - {*known}) if known else []
    if strange:
        raise UserError(
            f'{root / split} has the class {strange[0]}, which {root / REFERENCE_SPLIT} does not have; '
            'both must have the same classes'
        )
    return known or classes


def _images_of(folder: Path, name: str, label: int) -> list[tuple[str, int]]:
    files = sorted(map(PurePath, visible_files_below(folder / name)))
    images = [file for file in files if file.suffix.lower() in IMG_EXTENSIONS]
    if not images:
        raise UserError(f'{folder / name} has no images; add images, or remove the folder')
    return [(str(name / file), label) for file in images]


def _listed(listing: Path) -> list[tuple[str, int]]:
    entries = []
    try:
        lines = listing.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{listing} cannot be read ({error})') from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = listed_image(line)
        if entry is None:
            raise UserError(f'{listing}, line {number}: {line!r} is not a name and a label; fix it')
        if leads_out(entry[0]):
            raise UserError(
                f'{listing}, line {number}: {line!r} points outside the image folder; fix it'
            )
        entries.append(entry)
    if not entries:
        raise UserError(f'{listing} lists no images; each line must have a name and a label')
    return entries


def listed_image(line: str) -> tuple[str, int] | None:
    """Return the name and label in a line of `meta/<split>.txt`; None if one is missing or invalid."""
    name, _, label = line.rpartition(' ')
    is_label = label.isascii() and label.isdecimal() and len(label) <= len(str(MOST_CLASSES))
    return (name, int(label)) if name and '\0' not in name and is_label else None


@DATASETS.register_module()
class ImageNetDataset(BaseDataset):
    """Split of ImageNet, or of a data set in one of its layouts; see `labeled_images`.

    Args:
        data_root: path of the data set.
        split: `train` or `val`.
        pipeline: configs of the transforms.
        indices: number of images to use, or their indices; None for all.
        test_mode: whether to raise an error if a transform rejects a sample, instead of drawing a
            different one.
        serialize_data: whether worker processes share one copy of the list of images.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        pipeline: Sequence[dict] = (),
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        serialize_data: bool = True,
    ) -> None:
        self.split = split
        super().__init__(
            data_root=data_root,
            data_prefix={'img_path': split},
            pipeline=list(pipeline),
            indices=indices,
            test_mode=test_mode,
            serialize_data=serialize_data,
        )

    def load_data_list(self) -> list[dict]:
        """List `img_path` and `gt_label` of every image.

        Raises:
            UserError: the layout is unknown.
        """
        images = labeled_images(Path(self.data_root), self.split)
        self._metainfo['classes'] = _class_names(Path(self.data_root), self.split, images)
        folder = self.data_prefix['img_path']
        return [{'img_path': f'{folder}/{name}', 'gt_label': label} for name, label in images]


@TRANSFORMS.register_module()
class TimmTransforms(BaseTransform):
    """Crop, flip and change colors with timm's `create_transform`, on values from 0 to 255.

    The model's preprocessor does normalization and random erasing, on its device.

    Args:
        input_size: side of the square image, in pixels.
        is_training: whether to augment images at random; otherwise they are resized and center-cropped.
        interpolation: `bicubic`, `bilinear` or `random`.
        crop_pct: `input_size` as a share of the side that images are resized to before the crop; only
            in tests.
        auto_augment: timm's name of the policy, such as `rand-m9-mstd0.5-inc1`, or None; only in
            training.
        color_jitter: strength of color jitter; only in training without `auto_augment`.
        scale: smallest and largest area of a crop, as a share of the image; only in training.
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
        """Replace `img`, (H, W, 3), with (3, input_size, input_size), both uint8 in BGR order."""
        image = Image.fromarray(np.ascontiguousarray(results['img'][..., ::-1]))
        results['img'] = torch.as_tensor(np.asarray(self.transforms(image))).flip(0)
        results['img_shape'] = tuple(results['img'].shape[1:])
        return results


@TRANSFORMS.register_module()
class PackClassification(BaseTransform):
    """Pack image and label in the format that mmengine's runner passes to a model."""

    def transform(self, results: dict) -> dict:
        """Return `inputs` (3, H, W), and `data_samples` with the path and, if any, `gt_label`."""
        sample = BaseDataElement(
            metainfo={key: results[key] for key in ('img_path', 'img_shape', 'ori_shape')}
        )
        if 'gt_label' in results:
            sample.gt_label = torch.tensor(results['gt_label'])
        return {'inputs': results['img'], 'data_samples': sample}
