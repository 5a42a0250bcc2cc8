"""Data sets of generated scenes, in the layouts of COCO, ImageNet and data sets of segmentation maps.

mmdet's `CocoDataset` and mmseg's `BaseSegDataset` read the files as they read COCO and ADE20K; only the
class names differ:

    CocoDataset:    metainfo=dict(classes=OBJECT_CLASSES, palette=PALETTE[2:])
    BaseSegDataset: metainfo=dict(classes=SEGMENT_CLASSES, palette=PALETTE), reduce_zero_label=True
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from evaluation.data.map_layouts import ADE20K, MapLayout
from evaluation.scenes.scene_maps import MapWriter, write_picture
from evaluation.scenes.scenes import (
    OBJECT_CLASSES,
    Instance,
    Scene,
    SceneStyle,
    render_scene,
    scene_seed,
)
from evaluation.utils.errors import UserError
from evaluation.utils.files import replaced_folder

# Part of the stamp; increment it when a change of this code changes the files.
RENDERING_VERSION = 1
STAMP_NAME = 'scenes.json'
SPLITS = ('train', 'val')
Progress = Callable[[int, int], None]


def outline_polygons(mask: np.ndarray) -> list[list[float]] | None:
    """Return the polygons [x1, y1, x2, y2, ...] that fill exactly the pixels of a mask.

    The vertices are corners of pixels. OpenCV's contours connect centers of pixels, so they lose half a
    pixel on each side. In a mask enlarged by two, each pixel has two centers along each axis, and
    (center + 1) // 2 of the outer one is the corner.

    Args:
        mask: (H, W) bool, not empty.

    Returns:
        one polygon for each part, or None if a part has a hole, which polygons cannot represent.
    """
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parents = hierarchy[0, :, 3]
    if (parents >= 0).any():
        return None
    polygons = []
    for contour in contours:
        corners = (contour[:, 0] + 1) // 2
        corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
        before, after = (
            corners - np.roll(corners, 1, axis=0),
            np.roll(corners, -1, axis=0) - corners,
        )
        turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
        polygons.append(corners[turns].astype(float).ravel().tolist())
    return polygons


def coco_segmentation(mask: np.ndarray, is_crowd: bool) -> list[list[float]] | dict:
    """Encode a mask, (H, W) bool, exactly, in COCO's format.

    Crowds become an uncompressed run-length code, as in COCO. Other masks become polygons, or a
    compressed run-length code if they have a hole.
    """
    if is_crowd:
        pixels = mask.ravel(order='F')
        changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
        runs = np.diff(changes, prepend=0, append=pixels.size).tolist()
        # The first run counts zeros.
        return {'size': list(mask.shape), 'counts': [0, *runs] if pixels[0] else runs}
    polygons = outline_polygons(mask)
    if polygons is not None:
        return polygons
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': list(mask.shape), 'counts': encoded['counts'].decode('ascii')}


def category_id(name: str) -> int:
    """Return the COCO category id of a class: 1, 2, 4, 5, 7, 8; like COCO's, they have gaps."""
    index = OBJECT_CLASSES.index(name)
    return 1 + index + index // 2


class _Writer(Protocol):
    """Writer of one split of a data set in one layout."""

    def add(self, scene: Scene) -> None: ...

    def finish(self) -> None: ...


class _CocoWriter:
    """`train2017/000000000001.jpg`, `annotations/instances_train2017.json`; the same for val."""

    def __init__(self, root: Path, style: SceneStyle, split: str) -> None:
        self.style = style
        self.images: list[dict] = []
        self.annotations: list[dict] = []
        self.image_folder = root / f'{split}2017'
        self.annotation_path = root / 'annotations' / f'instances_{split}2017.json'
        self.image_folder.mkdir()
        self.annotation_path.parent.mkdir(exist_ok=True)

    def add(self, scene: Scene) -> None:
        """Write the picture and remember its annotations."""
        image_id = len(self.images) + 1
        name = f'{image_id:012d}.jpg'
        write_picture(self.image_folder / name, scene.image)
        self.images.append(
            {
                'id': image_id,
                'file_name': name,
                'height': self.style.height,
                'width': self.style.width,
                'license': 1,
                'coco_url': '',
                'flickr_url': '',
                'date_captured': '',
            }
        )
        for instance in scene.instances:
            if np.count_nonzero(instance.mask) >= self.style.area_min:
                self.annotations.append(self._annotation(image_id, instance))

    def _annotation(self, image_id: int, instance: Instance) -> dict:
        rows = np.flatnonzero(instance.mask.any(axis=1))
        columns = np.flatnonzero(instance.mask.any(axis=0))
        x, y = int(columns[0]), int(rows[0])
        return {
            'id': len(self.annotations) + 1,
            'image_id': image_id,
            'category_id': category_id(self.style.classes[instance.label]),
            'bbox': [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
            'area': int(np.count_nonzero(instance.mask)),
            'segmentation': coco_segmentation(instance.mask, instance.is_crowd),
            'iscrowd': int(instance.is_crowd),
        }

    def finish(self) -> None:
        """Write the annotations of the split."""
        document = {
            'info': {
                'description': 'Generated scenes of shapes',
                'version': str(RENDERING_VERSION),
            },
            'licenses': [{'id': 1, 'name': 'Generated: no photograph, no rights', 'url': ''}],
            'images': self.images,
            'annotations': self.annotations,
            'categories': [
                {'id': category_id(name), 'name': name, 'supercategory': 'shape'}
                for name in self.style.classes
            ],
        }
        self.annotation_path.write_text(json.dumps(document))


class _ImageNetWriter:
    """`train/<class>/00000001.jpg`, for scenes with a single object."""

    def __init__(self, root: Path, style: SceneStyle, split: str) -> None:
        self.style = style
        self.folder = root / split
        self.written = 0

    def add(self, scene: Scene) -> None:
        """Write the picture to the folder of its object's class."""
        (thing,) = scene.instances
        self.written += 1
        folder = self.folder / self.style.classes[thing.label]
        folder.mkdir(parents=True, exist_ok=True)
        write_picture(folder / f'{self.written:08d}.jpg', scene.image)

    def finish(self) -> None:
        """Do nothing: a split has no files besides those of its scenes."""


def _check_request(splits: dict[str, int], seed: int) -> None:
    if not splits or not set(splits) <= set(SPLITS):
        raise UserError(f'scenes: splits must be among {", ".join(SPLITS)}, got {list(splits)}')
    if min(splits.values()) < 1:
        raise UserError(f'scenes: every split needs at least one scene, got {splits}')
    if seed < 0:
        raise UserError(f'scenes: seed must not be negative, got {seed}')


def _stamp(layout: str, style: SceneStyle, splits: dict[str, int], seed: int) -> str:
    settings = {
        'layout': layout,
        'rendering_version': RENDERING_VERSION,
        'style': asdict(style),
        'splits': splits,
        'seed': seed,
    }
    return json.dumps(settings, indent=2, sort_keys=True) + '\n'


def _is_finished(root: Path, stamp: str) -> bool:
    """Return whether `root` has the data set of this stamp; refuse folders with other files."""
    stamp_path = root / STAMP_NAME
    if stamp_path.is_file():
        return stamp_path.read_text() == stamp
    if root.is_symlink() or root.is_file() or (root.is_dir() and any(root.iterdir())):
        raise UserError(f'{root} exists but has no generated scenes; move it, or give another folder')
    return False


def _write_dataset(
    layout: str,
    writer_of: Callable[[Path, SceneStyle, str], _Writer],
    root: Path,
    style: SceneStyle,
    splits: dict[str, int],
    seed: int,
    progress: Progress | None,
) -> None:
    _check_request(splits, seed)
    stamp = _stamp(layout, style, splits, seed)
    if _is_finished(root, stamp):
        return
    done, total = 0, sum(splits.values())
    with replaced_folder(root) as folder:
        for split, count in splits.items():
            writer = writer_of(folder, style, split)
            for number in range(count):
                writer.add(render_scene(style, scene_seed(seed, split, number)))
                done += 1
                if progress:
                    progress(done, total)
            writer.finish()
        (folder / STAMP_NAME).write_text(stamp)


def write_coco(
    root: str | Path,
    style: SceneStyle,
    splits: dict[str, int],
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Write scenes in the layout of COCO 2017, for mmdet's `CocoDataset`.

    Each split has `<split>2017/000000000001.jpg` and `annotations/instances_<split>2017.json`.
    Category ids start at 1 and have gaps. Masks are exact.

    Args:
        root: folder to create. Finished data with the same settings are kept; data with different
            settings are replaced at the end.
        style: appearance of the scenes.
        splits: number of scenes of 'train', of 'val', or of both.
        seed: seed of the data set, 0 or more.
        progress: called with (number of scenes written, total) after each scene.

    Raises:
        UserError: a setting is out of range, or `root` has other files.
    """
    _write_dataset('coco', _CocoWriter, Path(root), style, splits, seed, progress)


def write_ade20k(
    root: str | Path,
    style: SceneStyle,
    splits: dict[str, int],
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Write scenes in the layout of ADE20K's challenge data, for mmseg's datasets.

    Each split has `images/<folder>/ADE_<split>_00000001.jpg` and
    `annotations/<folder>/ADE_<split>_00000001.png`; the folders are `training` and `validation`. In the
    maps, 0 is unlabeled; 1, 2, ... are the classes in the order of `SEGMENT_CLASSES` (ground, sky and
    the style's classes).

    For arguments and errors see `write_coco`.
    """
    write_maps(ADE20K, root, style, splits, seed, progress)


def write_maps(
    layout: MapLayout,
    root: str | Path,
    style: SceneStyle,
    splits: dict[str, int],
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Write scenes with segmentation maps in a layout, for mmseg's data set of this name.

    The scenes have the first of the layout's classes, in the order of `SEGMENT_CLASSES`.

    For the other arguments and errors see `write_coco`.
    """
    writer_of = partial(MapWriter, layout)
    _write_dataset(layout.name, writer_of, Path(root), style, splits, seed, progress)


def write_imagenet(
    root: str | Path,
    style: SceneStyle,
    splits: dict[str, int],
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Write scenes of one object each in the layout of ImageNet, one folder per class.

    For arguments and errors see `write_coco`. The style must have exactly one object per scene.
    """
    if not style.has_single_objects:
        raise UserError('scenes: image folders by class need scenes with exactly one object')
    _write_dataset('imagenet', _ImageNetWriter, Path(root), style, splits, seed, progress)


def write_datasets(
    root: str | Path,
    style: SceneStyle,
    splits: dict[str, int],
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Write the same scenes to `root/coco` and to `root/ADEChallengeData2016`.

    Each of the two is kept if it is finished. For arguments and errors see `write_coco`; progress is
    counted separately for each.
    """
    write_coco(Path(root, 'coco'), style, splits, seed, progress)
    write_ade20k(Path(root, 'ADEChallengeData2016'), style, splits, seed, progress)
