"""Examination of data sets of images and segmentation maps."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import backbones  # noqa: F401  (before mmseg, which needs its operators)
from evaluation.data.bad_images import bad_files, reason
from evaluation.data.findings import Examination
from evaluation.data.image_files import check_upright, visible_files_below
from evaluation.data.image_loading import LoadCheckedImage
from evaluation.data.map_layouts import MAP_LAYOUTS, MapLayout
from evaluation.data.segmentation_map import LoadCheckedSegmentationMap
from evaluation.utils.errors import UserError

# Extensions of images that the data set would not find.
OTHER_IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
LOAD = LoadCheckedImage()


def examine_maps(
    examination: Examination, num_classes: int | None, keep_zero_label: bool, workers: int
) -> None:
    """Examine every image of a data root and its map.

    Args:
        examination: where findings are added; its layout is one of `MAP_LAYOUTS`.
        num_classes: number of classes; None for that of the layout.
        keep_zero_label: whether classes start at 0 even if 0 is ignored in the layout.
        workers: number of threads.

    Raises:
        UserError: there is no split, or a split has only images or only maps.
    """
    layout = MAP_LAYOUTS[examination.layout]
    layout = replace(
        layout,
        num_classes=num_classes or layout.num_classes,
        reduce_zero_label=layout.reduce_zero_label and not keep_zero_label,
    )
    splits = [split for split in layout.splits if _is_there(examination.root, layout, split)]
    if not splits:
        folders = ' nor '.join(str(layout.folders(split)[0]) for split in layout.splits)
        raise UserError(f'{examination.root} has neither {folders}')
    for split in splits:
        examine_pairs(examination, layout, split, workers)


def examine_pairs(examination: Examination, layout: MapLayout, split: str, workers: int) -> None:
    """Examine the pairs of images and maps of a split."""
    root = examination.root
    images, maps = layout.folders(split)
    image_ending, map_ending = layout.image_ending, layout.map_ending
    pictures, others = _names(root / images, image_ending)
    mapped, _ = _names(root / maps, map_ending)
    examination.counts['images'] += len(pictures)
    examination.counts['maps'] += len(mapped)
    for name in others:
        text = f'does not end in {image_ending}, so it is not found'
        examination.add('images with a different extension', images / name, text)
    for name in sorted(pictures - mapped):
        text = f'has no {maps / name}{map_ending}'
        examination.add('images without maps', images / f'{name}{image_ending}', text)
    for name in sorted(mapped - pictures):
        text = f'has no {images / name}{image_ending}'
        examination.add('maps without images', maps / f'{name}{map_ending}', text)
    read = partial(load_pair, root, layout, split)
    for name, error in bad_files(sorted(pictures & mapped), read, workers, layout.splits[split]):
        files = (images / f'{name}{image_ending}', maps / f'{name}{map_ending}')
        subject = next((file for file in files if str(error).startswith(f'{root / file} ')), files[0])
        examination.add(error.kind, subject, reason(error, str(root / subject)))


def load_pair(root: Path, layout: MapLayout, split: str, name: str) -> None:
    """Load an image and its map as in training.

    Raises:
        BadFileError: one of them cannot be used, or the image has an EXIF orientation.
    """
    images, maps = (root / folder for folder in layout.folders(split))
    path = f'{images / name}{layout.image_ending}'
    loaded = LOAD.transform({'img_path': path})
    loaded |= {
        'seg_map_path': f'{maps / name}{layout.map_ending}',
        'reduce_zero_label': layout.reduce_zero_label,
        'seg_fields': [],
    }
    LoadCheckedSegmentationMap(layout.num_classes).transform(loaded)
    check_upright(Path(path).read_bytes(), path)


def _is_there(root: Path, layout: MapLayout, split: str) -> bool:
    """Return whether a split is there.

    Raises:
        UserError: only its images or only its maps are there.
    """
    folders = [root / folder for folder in layout.folders(split)]
    present = [folder.is_dir() for folder in folders]
    if any(present) and not all(present):
        raise UserError(
            f'{folders[present.index(False)]} is missing, but images and maps are both needed'
        )
    return all(present)


def _names(folder: Path, ending: str) -> tuple[set[str], list[str]]:
    """Return names of files with an ending, without it, and names of images with other endings."""
    files = visible_files_below(folder)
    found = {name.removesuffix(ending) for name in files if name.endswith(ending)}
    others = [name for name in files if not name.endswith(ending)]
    return found, sorted(name for name in others if name.lower().endswith(OTHER_IMAGES))
