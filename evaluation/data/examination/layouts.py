"""Which of the data sets that the suite knows lies in a folder."""

from pathlib import Path

from evaluation.utils.errors import UserError

COCO, ADE20K, IMAGENET = LAYOUTS = ('coco', 'ade20k', 'imagenet')
COCO_FILES = 'annotations/instances_*.json'
ADE20K_SPLITS = ('training', 'validation')
IMAGENET_SPLITS = ('train', 'val')


def recognized(root: Path) -> str | None:
    """Layout of a data root, by the folders and files in it; None where it is none of them."""
    if any(root.glob(COCO_FILES)):
        return COCO
    if any((root / 'annotations' / split).is_dir() for split in ADE20K_SPLITS):
        return ADE20K
    lists = any((root / 'meta' / f'{split}.txt').is_file() for split in IMAGENET_SPLITS)
    if lists or all((root / split).is_dir() for split in IMAGENET_SPLITS):
        return IMAGENET
    return None


def layout_of(root: Path, wanted: str | None) -> str:
    """The layout that is wanted, else the one that is recognized.

    Raises:
        UserError: there is no such folder, or it has none of the layouts.
    """
    if not root.is_dir():
        raise UserError(f'data root {root} is not a folder; give --data-root')
    layout = wanted or recognized(root)
    if layout is None:
        raise UserError(
            f'{root} has none of the known layouts: {COCO_FILES} (coco), images/training and '
            'annotations/training (ade20k), train/ and val/ or meta/train.txt (imagenet)'
        )
    return layout
