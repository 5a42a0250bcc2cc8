"""Files of scenes with segmentation maps, in the layouts of ADE20K, Cityscapes and COCO-Stuff."""

from pathlib import Path

import cv2
import numpy as np

from evaluation.data.map_layouts import ADE20K, CITYSCAPES, COCO_STUFF, MapLayout
from evaluation.scenes.scenes import Scene, SceneStyle

JPEG_QUALITY = 95
# Names of images and maps in the folders of a split, without their endings.
NAMES = {
    ADE20K.name: 'ADE_{split}_{number:08d}',
    # In the folder of a city.
    CITYSCAPES.name: 'scenes/scenes_000000_{number:06d}',
    COCO_STUFF.name: '{number:012d}',
}


class MapWriter:
    """Writer of one split: pictures, and maps with the class indices of a layout.

    Args:
        layout: layout of the data set.
        root: data root, an existing folder.
        style: appearance of the scenes; all styles have the same classes in maps.
        split: `train` or `val`.
    """

    def __init__(self, layout: MapLayout, root: Path, style: SceneStyle, split: str) -> None:
        self.layout = layout
        self.split = split
        self.written = 0
        self.folders = [root / folder for folder in layout.folders(split)]
        for folder in self.folders:
            folder.mkdir(parents=True)

    def add(self, scene: Scene) -> None:
        """Write the picture and its segmentation map."""
        self.written += 1
        name = NAMES[self.layout.name].format(split=self.split, number=self.written)
        images, maps = (folder / name for folder in self.folders)
        for file in (images, maps):
            file.parent.mkdir(exist_ok=True)
        labels = scene.segmentation
        if not self.layout.reduce_zero_label:
            # Classes start at 0; unlabeled pixels, 0 in scenes, wrap to the ignored 255.
            labels = labels - np.uint8(1)
        write_picture(Path(f'{images}{self.layout.image_ending}'), scene.image)
        encoded = cv2.imencode('.png', labels)[1]
        Path(f'{maps}{self.layout.map_ending}').write_bytes(encoded.tobytes())

    def finish(self) -> None:
        """Do nothing: a split has no files besides those of its scenes."""


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3), uint8, RGB, in the format of the file's extension."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    encoded = cv2.imencode(path.suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    path.write_bytes(encoded.tobytes())
