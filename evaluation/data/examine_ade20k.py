"""Examination of data in ADE20K's layout."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import backbones  # noqa: F401  (before mmseg, which needs its operators)
from evaluation.data.bad_images import bad_files, reason
from evaluation.data.findings import ADE20K_SPLITS, Examination
from evaluation.data.image_files import check_upright, visible_files_below
from evaluation.data.image_loading import LoadCheckedImage
from evaluation.data.segmentation_map import LoadCheckedSegmentationMap
from evaluation.utils.errors import UserError

IMAGE, MAP = '.jpg', '.png'
# Extensions of images that the data set would not find.
OTHER_IMAGES = ('.bmp', '.jpeg', '.png', '.tif', '.tiff', '.webp')
CLASSES = 150
LOAD = LoadCheckedImage()


@dataclass(frozen=True)
class Labels:
    """Meaning of the values of segmentation maps.

    Attributes:
        num_classes: number of classes.
        reduce_zero_label: whether 0 is ignored and classes start at 1, as in ADE20K.
    """

    num_classes: int = CLASSES
    reduce_zero_label: bool = True


def examine_ade20k(examination: Examination, labels: Labels, workers: int) -> None:
    """Examine every image of a data root and its map.

    Raises:
        UserError: a split has only images or only maps.
    """
    splits = [split for split in ADE20K_SPLITS if _is_there(examination.root, split)]
    if not splits:
        raise UserError(f'{examination.root} has neither images/training nor images/validation')
    for split in splits:
        examine_pairs(examination, split, labels, workers)


def examine_pairs(examination: Examination, split: str, labels: Labels, workers: int) -> None:
    """Examine the pairs of images and maps of a split."""
    root = examination.root
    images, maps = Path('images', split), Path('annotations', split)
    pictures, others = _names(root / images, IMAGE)
    mapped, _ = _names(root / maps, MAP)
    examination.counts['images'] += len(pictures)
    examination.counts['maps'] += len(mapped)
    for name in others:
        text = f'does not end in {IMAGE}, so it is not found'
        examination.add('images with a different extension', images / name, text)
    for name in sorted(pictures - mapped):
        examination.add('images without maps', images / f'{name}{IMAGE}', f'has no {maps / name}{MAP}')
    for name in sorted(mapped - pictures):
        examination.add('maps without images', maps / f'{name}{MAP}', f'has no {images / name}{IMAGE}')
    read = partial(load_pair, root / images, root / maps, labels)
    for name, error in bad_files(sorted(pictures & mapped), read, workers, split):
        files = (images / f'{name}{IMAGE}', maps / f'{name}{MAP}')
        subject = next((file for file in files if str(error).startswith(f'{root / file} ')), files[0])
        examination.add(error.kind, subject, reason(error, str(root / subject)))


def load_pair(images: Path, maps: Path, labels: Labels, name: str) -> None:
    """Load an image and its map as in training.

    Raises:
        BadFileError: one of them cannot be used, or the image has an EXIF orientation.
    """
    path = str(images / f'{name}{IMAGE}')
    loaded = LOAD.transform({'img_path': path})
    loaded |= {
        'seg_map_path': str(maps / f'{name}{MAP}'),
        'reduce_zero_label': labels.reduce_zero_label,
        'seg_fields': [],
    }
    LoadCheckedSegmentationMap(labels.num_classes).transform(loaded)
    check_upright(Path(path).read_bytes(), path)


def _is_there(root: Path, split: str) -> bool:
    folders = [root / kind / split for kind in ('images', 'annotations')]
    present = [folder.is_dir() for folder in folders]
    if any(present) and not all(present):
        raise UserError(
            f'{folders[present.index(False)]} is missing, but images and maps are both needed'
        )
    return all(present)


def _names(folder: Path, ending: str) -> tuple[set[str], list[str]]:
    """Return names of files with an extension, without it, and names of images with other extensions."""
    files = visible_files_below(folder)
    found = {name.removesuffix(ending) for name in files if name.endswith(ending)}
    others = [name for name in files if not name.endswith(ending)]
    return found, sorted(name for name in others if name.lower().endswith((ending, *OTHER_IMAGES)))
