"""Predict on a user's own images: find them, run the model, write files (`tools/predict.py`)."""

import argparse
import glob
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from evaluation.data.image_files import read_whole, visible_files_below
from evaluation.data.image_loading import decoded, loaded_by
from evaluation.engine.drawing import Color, draw_instances, draw_segmentation
from evaluation.engine.experiment import check_work_dir
from evaluation.engine.predictor import Predictor, load_predictor
from evaluation.engine.submission import as_text, png
from evaluation.engine.trained_model import read_analyzed_config
from evaluation.metrics.coco_matching import to_coco
from evaluation.metrics.predictions import encode_masks
from evaluation.utils.devices import own_device
from evaluation.utils.errors import UserError
from evaluation.utils.formats import clock

REPORT_SECONDS = 5.0
ADVICE = 'restore it or omit it'
# COCO numbers its 80 classes from 1 to 90, with gaps.
COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = [number for number in range(1, 91) if number not in COCO_GAPS]
TOP = 5


def predict(arguments: argparse.Namespace) -> None:
    """Run `tools/predict.py`.

    Files appear in the output folder only after all images are predicted.

    Raises:
        UserError: the config, the checkpoint, an image or the output folder cannot be used.
    """
    out = arguments.out
    if out.exists() and not out.is_dir():
        raise UserError(f'--out {out} is a file; give a folder')
    check_work_dir(out)
    images = find_images(arguments.images)
    names = output_names(images)
    cfg = read_analyzed_config(
        arguments.config,
        arguments.cfg_options,
        ('test_dataloader',),
        arguments.backbone,
        arguments.checkpoint,
    )
    device = own_device(arguments.device)
    check_readable(images)
    predictor = load_predictor(cfg, arguments.checkpoint, arguments.checkpoint_key, device)
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}.', dir=parent) as unfinished:
        writer = Writer(predictor, Path(unfinished), arguments.score_threshold, arguments.pictures)
        write_all(writer, images, names, arguments.batch_size)
        move_into(Path(unfinished), out)
    print(f'{len(images)} images predicted, written to {out}')


class Writer:
    """Writes the predictions image by image, and the files that list all images at the end."""

    def __init__(self, predictor: Predictor, folder: Path, threshold: float, pictures: bool) -> None:
        self.predictor = predictor
        self.folder = folder
        self.threshold = threshold
        self.pictures = pictures
        self.entries: list[dict] = []
        self.images: list[dict] = []

    def write(self, number: int, image: Path, name: str, sample: Any) -> None:
        """Write the files of one image, and collect its entries for `finish`."""
        classes, scope = self.predictor.classes, self.predictor.scope
        file = name + image.suffix
        height, width = sample.ori_shape
        self.images.append({'id': number, 'file_name': file, 'height': height, 'width': width})
        picture = None
        if scope == 'mmdet':
            self.entries += detections(sample, number, file, classes, self.threshold)
            if self.pictures:
                picture = instances_picture(
                    self._picture(image), sample, classes, self.predictor.palette, self.threshold
                )
        elif scope == 'mmseg':
            labels = class_map(sample)
            save_map(self.folder / 'maps' / f'{name}.png', labels)
            if self.pictures:
                picture = draw_segmentation(self._picture(image), labels, self.predictor.palette)
        else:
            self.entries.append(top_classes(sample, file, classes))
        if picture is not None:
            target = self.folder / 'pictures' / f'{name}.png'
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), picture[..., ::-1])

    def _picture(self, image: Path) -> np.ndarray:
        """Load the image as the model saw it, rotated by its EXIF orientation or not."""
        return loaded_by(self.predictor.pipeline, str(image))

    def finish(self) -> None:
        """Write the files that list all images."""
        classes, scope = self.predictor.classes, self.predictor.scope
        if scope == 'mmseg':
            values = [{'value': value, 'name': name} for value, name in enumerate(classes)]
            save_json(self.folder / 'classes.json', values)
            return
        save_json(self.folder / 'predictions.json', self.entries)
        if scope == 'mmdet':
            ids = zip(category_ids(classes), classes, strict=True)
            categories = [{'id': number, 'name': name} for number, name in ids]
            content = {'images': self.images, 'categories': categories}
            save_json(self.folder / 'images.json', content)


def write_all(writer: Writer, images: Sequence[Path], names: Sequence[str], batch_size: int) -> None:
    """Predict all images and write the results, with progress on stderr."""
    started = reported = time.monotonic()
    samples = writer.predictor.predict(images, batch_size)
    for number, (image, name, sample) in enumerate(zip(images, names, samples, strict=True), start=1):
        writer.write(number, image, name, sample)
        now = time.monotonic()
        if now - reported > REPORT_SECONDS and number < len(images):
            reported = now
            left = clock((now - started) / number * (len(images) - number))
            print(f'{number} of {len(images)} images, about {left} left', file=sys.stderr, flush=True)
    writer.finish()


def move_into(folder: Path, out: Path) -> None:
    """Move all files of a folder into another one; existing files are replaced."""
    for parent, _, files in os.walk(folder):
        target = out / os.path.relpath(parent, folder)
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.move(os.path.join(parent, file), target / file)


def find_images(given: Sequence[str]) -> list[Path]:
    """Return the images given by paths, folders and patterns, each once, in the given order.

    Raises:
        UserError: a path, folder or pattern matches no image.
    """
    found = [path for name in given for path in _images_of(name)]
    return list(dict.fromkeys(found))


def _images_of(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        names = sorted(visible_files_below(path))
        images = [path / each for each in names if Path(each).suffix.lower() in IMG_EXTENSIONS]
        if not images:
            raise UserError(f'folder {name} has no images; supported: {", ".join(IMG_EXTENSIONS)}')
        return images
    if path.exists():
        return [path]
    matches = sorted(Path(match) for match in glob.glob(name, recursive=True))
    if not matches:
        raise UserError(f'{name} is missing; give images, folders or patterns such as "photos/*.jpg"')
    return [image for match in matches for image in _images_of(str(match))]


def output_names(images: Sequence[Path]) -> list[str]:
    """Return an output name for each image: its path below the common folder, without suffix.

    Raises:
        UserError: two images would have the same name.
    """
    absolute = [os.path.abspath(image) for image in images]
    folder = os.path.commonpath([os.path.dirname(image) for image in absolute])
    names = [os.path.splitext(os.path.relpath(image, folder))[0] for image in absolute]
    first: dict[str, Path] = {}
    for name, image in zip(names, images, strict=True):
        if name in first:
            raise UserError(
                f'{first[name]} and {image} differ only in their suffix, so one output would '
                'overwrite the other; predict them in separate runs'
            )
        first[name] = image
    return names


def check_readable(images: Sequence[Path]) -> None:
    """Decode every image, so that a bad one stops the command before the model runs.

    Raises:
        BadFileError: an image is missing, truncated or not an image.
    """
    for image in images:
        decoded(read_whole(str(image), None, ADVICE), str(image), advice=ADVICE)


def category_ids(classes: Sequence[str]) -> list[int]:
    """Return COCO's category ids if the classes are COCO's, else 1, 2, ..."""
    is_coco = len(classes) == len(COCO_IDS) and (classes[0], classes[-1]) == ('person', 'toothbrush')
    return COCO_IDS if is_coco else list(range(1, len(classes) + 1))


def detections(
    sample: Any, number: int, file: str, classes: Sequence[str], threshold: float
) -> list[dict]:
    """Return the instances of an image as COCO results, with file and class names.

    Args:
        sample: output of mmdet's detector.
        number: id of the image.
        file: file name of the image.
        classes: class names.
        threshold: instances with a lower score are dropped.
    """
    found = sample.pred_instances
    found = found[found.scores >= threshold]
    image = {name: found[name].numpy() for name in ('bboxes', 'scores', 'labels')}
    entries = to_coco([{'img_id': number, **image}], category_ids(classes), 'bbox')
    masks = encode_masks(found.masks) if 'masks' in found else [None] * len(entries)
    for entry, mask, label in zip(entries, masks, image['labels'].tolist(), strict=True):
        entry.update(file_name=file, category_name=classes[label])
        if mask is not None:
            entry['segmentation'] = as_text(mask)
    return entries


def class_map(sample: Any) -> np.ndarray:
    """Return the class of each pixel, (H, W) uint8, from the output of mmseg's segmentor."""
    return sample.pred_sem_seg.data[0].numpy().astype(np.uint8)


def top_classes(sample: Any, file: str, classes: Sequence[str]) -> dict:
    """Return the most probable classes of an image."""
    scores, labels = sample.pred_scores.topk(min(TOP, len(classes)))
    pairs = zip(labels.tolist(), scores.tolist(), strict=True)
    return {
        'file_name': file,
        'top5': [{'label': i, 'class': str(classes[i]), 'score': score} for i, score in pairs],
    }


def instances_picture(
    image: np.ndarray,
    sample: Any,
    classes: Sequence[str],
    palette: Sequence[Color],
    threshold: float,
) -> np.ndarray:
    """Draw the instances with a score of at least `threshold` on an image (H, W, 3), RGB."""
    found = sample.pred_instances
    found = found[found.scores >= threshold]
    count = len(found)
    masks = found.masks.numpy() if 'masks' in found else np.zeros((count, *image.shape[:2]), bool)
    arrays = (found.bboxes.numpy(), found.labels.numpy(), found.scores.numpy())
    return draw_instances(image, masks, *arrays, classes, palette)


def save_json(file: Path, content: Any) -> None:
    """Write a JSON file."""
    file.write_text(json.dumps(content, indent=1, allow_nan=False) + '\n', encoding='utf-8')


def save_map(file: Path, labels: np.ndarray) -> None:
    """Write a map as PNG; create its folder if needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(png(labels))
