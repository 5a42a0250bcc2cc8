"""Files of a data set folder by their roles: images, masks and annotation files, and their splits."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from evaluation.data.coco_faults import is_name
from evaluation.data.coco_file import read_json
from evaluation.data.image_files import leads_out, visible_files_below
from evaluation.utils.errors import UserError
from evaluation.utils.process_memory import garbage_collection_paused

COCO, MASKS, VOC = FORMATS = ('coco', 'masks', 'voc')
TRAIN, VAL, TEST = 'train', 'val', 'test'
# Folder in a data root for files that the suite writes.
PREPARED = 'dense_mixer_bench'
IMAGE_ENDINGS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
# Words in the names of folders.
IMAGE_WORDS = ('image', 'images', 'img', 'imgs', 'jpegimages')
MASK_WORDS = (
    'ann',
    'annotation',
    'annotations',
    'gt',
    'label',
    'labels',
    'mask',
    'masks',
    'segmentation',
    'segmentationclass',
    'segmentations',
)
# Endings that mask names may have in addition to the name of their image.
MASK_MARKS = re.compile(r'[_-](mask|masks|label|labels|seg|gt)$', re.IGNORECASE)
SPLIT_WORDS = {
    'train': TRAIN,
    'training': TRAIN,
    'val': VAL,
    'valid': VAL,
    'validation': VAL,
    'test': TEST,
    'testing': TEST,
}
COCO_LISTS = ('images', 'annotations')
# A folder with more JSON files has one for each image, as LabelMe writes them.
MOST_JSON_FILES = 20
ADVICE = (
    'give a COCO JSON file that lists its images, a folder of masks beside one of images, or XML '
    "files of Pascal VOC with their images; convert other formats, such as LabelMe's or YOLO's, to "
    "COCO's first"
)


@dataclass(frozen=True)
class DatasetFolder:
    """The files of a data set folder, by their paths relative to it.

    Attributes:
        root: path of the folder.
        images: images that are in no folder of masks.
        masks: images in a folder of masks.
        coco: COCO annotation files.
        xml: XML files.
    """

    root: Path
    images: list[str]
    masks: list[str]
    coco: list[str]
    xml: list[str]

    def of_format(self, kind: str) -> list[str]:
        """Return the annotation files of a format."""
        return {COCO: self.coco, MASKS: self.masks, VOC: self.xml}[kind]


def look_at_folder(root: Path) -> DatasetFolder:
    """List the files of a data set folder; hidden ones and those of the suite are left out.

    Raises:
        UserError: the path is not a folder, has no images, or has a JSON file that cannot be read.
    """
    if not root.is_dir():
        raise UserError(f'{root} is not a folder; give the folder of a data set')
    if not is_name(str(root)):
        raise UserError(f'the name of the folder {str(root)!r} is not UTF-8; rename it')
    names = sorted(filter(_is_of_user, visible_files_below(root)))
    strange = next((name for name in names if not is_name(name)), None)
    if strange is not None:
        raise UserError(f'{root} has a file name that is not UTF-8, {strange!r}; rename it')
    pictures = [name for name in names if name.lower().endswith(IMAGE_ENDINGS)]
    if not pictures:
        raise UserError(f'{root} has no images; give a folder with images ({", ".join(IMAGE_ENDINGS)})')
    masks = [name for name in pictures if _is_mask(name)]
    images = [name for name in pictures if not _is_mask(name)]
    json_files = [name for name in names if name.lower().endswith('.json')]
    coco = _coco_files(root, json_files)
    xml = [name for name in names if name.lower().endswith('.xml')]
    return DatasetFolder(root, images, masks, coco, xml)


def format_of(folder: DatasetFolder, wanted: str | None) -> str:
    """Return the wanted format, or the only one that the folder has annotations in.

    Raises:
        UserError: there are no annotations of the format, or of several formats if none is wanted.
    """
    found = [kind for kind in FORMATS if folder.of_format(kind)]
    if wanted is None and len(found) > 1:
        examples = ', '.join(f'{kind} ({folder.of_format(kind)[0]})' for kind in found)
        raise UserError(
            f'{folder.root} has annotations in several formats: {examples}; choose one with --format'
        )
    if not found:
        raise UserError(f'{folder.root} has images but no annotations; {ADVICE}')
    if wanted not in (None, *found):
        raise UserError(
            f'{folder.root} has no annotations of the format {wanted}, but of {", ".join(found)}; give '
            f'--format {found[0]}'
        )
    return wanted or found[0]


def split_of(name: str) -> str | None:
    """Return the split that a path names, in the file name or else in the nearest folder; or None.

    Args:
        name: path relative to the data set folder.
    """
    path = PurePath(name)
    for part in (path.stem, *reversed(path.parts[:-1])):
        words = re.split('[^a-z]+', part.lower())
        found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
        if len(found) == 1:
            return found.pop()
    return None


def folder_split_of(name: str) -> str | None:
    """Return the split that a folder of a file names, such as `train2017` or `val_images`, or None."""
    for part in reversed(PurePath(name).parts[:-1]):
        words = [word for word in re.split('[^a-z]+', part.lower()) if word]
        words = [word for word in words if word not in (*IMAGE_WORDS, *MASK_WORDS)]
        if len(words) == 1 and words[0] in SPLIT_WORDS:
            return SPLIT_WORDS[words[0]]
    return None


def pairs_of(folder: DatasetFolder) -> list[tuple[str, str]]:
    """Pair images and masks that have the same path, except for folders of roles and endings.

    Test images without masks are left out.

    Raises:
        UserError: an image or a mask has no counterpart, or several.
    """
    images = _by_key(folder.root, folder.images, 'images', lambda stem: stem)
    stems = {key[-1] for key in images}

    def without_mark(stem: str) -> str:
        return stem if stem in stems else MASK_MARKS.sub('', stem)

    masks = _by_key(folder.root, folder.masks, 'masks', without_mark)
    for one, other, what, lacking in (
        (images, masks, 'images', 'mask'),
        (masks, images, 'masks', 'image'),
    ):
        # Test images often have no masks; they are not used.
        alone = [p for key, p in one.items() if key not in other and folder_split_of(p) != TEST]
        if alone:
            raise UserError(
                f'{len(alone)} of the {len(one)} {what} of {folder.root} have no {lacking}, such as '
                f'{alone[0]}; give images and masks the same names, and remove files without a '
                'counterpart'
            )
    return [(path, masks[key]) for key, path in images.items() if key in masks]


class ImageFinder:
    """Find images by the names that an annotation file gives them.

    Names need not state the folder: `a.jpg` is found as `images/train/a.jpg`. Unicode names are the same
    in composed and decomposed form.

    Args:
        images: paths of images relative to the data set folder.
    """

    def __init__(self, images: Sequence[str]) -> None:
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in images:
            self._by_name[_composed(os.path.basename(path))].append(path)

    def find(self, name: str, file: str) -> str | None:
        """Return the path of an image; None if it is missing.

        Args:
            name: name in an annotation file.
            file: path of the annotation file, which is preferred over equal names elsewhere: its
                folder first, then folders of its split.

        Raises:
            UserError: several images have this name.
        """
        if leads_out(name):
            return None
        wanted = os.path.normpath(_composed(name))
        known = self._by_name.get(os.path.basename(wanted), [])
        found = [path for path in known if f'/{_composed(path)}'.endswith(f'/{wanted}')]
        beside = os.path.normpath(os.path.join(os.path.dirname(file), wanted))
        same_split = [path for path in found if folder_split_of(path) == split_of(file)]
        for preferred in ([path for path in found if _composed(path) == _composed(beside)], same_split):
            if len(preferred) == 1:
                return preferred[0]
        if len(found) > 1:
            raise UserError(
                f'{file} names the image {name}, which could be {found[0]} or {found[1]}; give the '
                'path of each image relative to the data set folder'
            )
        return found[0] if found else None


@garbage_collection_paused()
def _coco_files(root: Path, names: Sequence[str]) -> list[str]:
    """Return the JSON files with COCO's lists; only `instances_*.json` if there are any."""
    counts = Counter(os.path.dirname(name) for name in names)
    few = [name for name in names if counts[os.path.dirname(name)] <= MOST_JSON_FILES]
    found = [name for name in few if _is_coco(read_json(root / name))]
    instances = [name for name in found if PurePath(name).name.startswith('instances_')]
    return instances or found


def _is_coco(content: Any) -> bool:
    return type(content) is dict and all(name in content for name in COCO_LISTS)


def _is_of_user(name: str) -> bool:
    parts = PurePath(name).parts
    return PREPARED not in parts and not any(part.startswith('.') for part in parts)


def _words(part: str) -> list[str]:
    return [word for word in re.split(r'[\W_]+', part.lower()) if word]


def _is_mask(name: str) -> bool:
    return any(word in MASK_WORDS for part in PurePath(name).parts[:-1] for word in _words(part))


def _by_key(
    root: Path, names: Collection[str], what: str, plain: Callable[[str], str]
) -> dict[tuple[str, ...], str]:
    """Return paths by the words of their folders, without those that name a role, and their stem.

    Raises:
        UserError: two paths have the same key.
    """
    keys: dict[tuple[str, ...], str] = {}
    for name in names:
        path = PurePath(_composed(name))
        words = [word for part in path.parts[:-1] for word in _words(part)]
        kept = [word for word in words if word not in (*IMAGE_WORDS, *MASK_WORDS)]
        key = (*kept, plain(path.stem))
        if key in keys:
            raise UserError(
                f'{root} has two {what} of one name, {keys[key]} and {name}; rename or remove one'
            )
        keys[key] = name
    return keys


def _composed(text: str) -> str:
    return unicodedata.normalize('NFC', text)
