"""What `tools/predict.py` does."""

import argparse
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

from evaluation.data.image_loading import loaded_by
from evaluation.engine.drawing.predictions import draw_segmentation
from evaluation.engine.experiment import check_work_dir
from evaluation.engine.prediction.images import check_readable, find_images, output_names
from evaluation.engine.prediction.model import Predictor, load_predictor
from evaluation.engine.prediction.outputs import (
    category_ids,
    class_map,
    detections,
    instances_picture,
    save_json,
    save_map,
    top_classes,
)
from evaluation.engine.trained_model import read_analysed_config
from evaluation.utils.devices import own_device
from evaluation.utils.errors import UserError
from evaluation.utils.times import clock

REPORT_SECONDS = 5.0


def predict(arguments: argparse.Namespace) -> None:
    """Predict as the command line of `tools/predict.py` asks.

    Files appear in the output folder only when all images are predicted.

    Raises:
        UserError: the config, the checkpoint, an image or the output folder cannot be used.
    """
    out = arguments.out
    if out.exists() and not out.is_dir():
        raise UserError(f'--out {out} is a file; give a folder')
    check_work_dir(out)
    images = find_images(arguments.images)
    names = output_names(images)
    cfg = read_analysed_config(arguments.config, arguments.cfg_options, ('test_dataloader',))
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
    """Writes the predictions of one image after another, and at the end what lists all of them."""

    def __init__(self, predictor: Predictor, folder: Path, threshold: float, pictures: bool) -> None:
        self.predictor = predictor
        self.folder = folder
        self.threshold = threshold
        self.pictures = pictures
        self.entries: list[dict] = []
        self.images: list[dict] = []

    def write(self, number: int, image: Path, name: str, sample: Any) -> None:
        """Write what is of one image, and note the rest."""
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
        """The image as the model saw it, turned by its EXIF orientation or not."""
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
    """Predict and write all images, with progress."""
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
    """Move all files of a folder into another, which may have some of these names already."""
    for parent, _, files in os.walk(folder):
        target = out / os.path.relpath(parent, folder)
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.move(os.path.join(parent, file), target / file)
