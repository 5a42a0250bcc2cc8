"""Images that a command line names: files, folders and patterns."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from evaluation.data.image_files import read_whole, visible_files_below
from evaluation.data.image_loading import decoded
from evaluation.utils.errors import UserError

ADVICE = 'restore it or leave it out'


def find_images(given: Sequence[str]) -> list[Path]:
    """Return the images that paths, folders and patterns name, each once, in their order.

    Raises:
        UserError: one of them names no image.
    """
    found = [path for name in given for path in _images_of(name)]
    return list(dict.fromkeys(found))


def _images_of(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        names = sorted(visible_files_below(path))
        images = [path / each for each in names if Path(each).suffix.lower() in IMG_EXTENSIONS]
        if not images:
            raise UserError(f'folder {name} holds no image; give one with {", ".join(IMG_EXTENSIONS)}')
        return images
    if path.exists():
        return [path]
    matches = sorted(Path(match) for match in glob.glob(name, recursive=True))
    if not matches:
        raise UserError(f'{name} is missing; give images, folders or patterns such as "photos/*.jpg"')
    return [image for match in matches for image in _images_of(str(match))]


def output_names(images: Sequence[Path]) -> list[str]:
    """Return a name for the outputs of each image: its path below their common folder, no suffix.

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
                f'{first[name]} and {image} differ in their suffix alone, so that one output would '
                'replace the other; predict them one at a time'
            )
        first[name] = image
    return names


def check_readable(images: Sequence[Path]) -> None:
    """Decode every image, so that a bad one stops the command before the model runs.

    Raises:
        BadFileError: one is missing, truncated or no image.
    """
    for image in images:
        decoded(read_whole(str(image), None, ADVICE), str(image), advice=ADVICE)
