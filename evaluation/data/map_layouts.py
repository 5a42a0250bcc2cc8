"""Layouts of data sets of images and segmentation maps: folders, endings of file names, and classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MapLayout:
    """Layout of a data root.

    Attributes:
        name: name of the layout, as in `--kind`.
        images: folder of images.
        maps: folder of segmentation maps.
        splits: names of the folders of training and validation in both, by `train` and `val`.
        image_ending: end of the names of images.
        map_ending: end of the names of maps, which are otherwise those of the images.
        num_classes: number of classes.
        reduce_zero_label: whether 0 is ignored and classes start at 1.
    """

    name: str
    images: str
    maps: str
    splits: Mapping[str, str]
    image_ending: str
    map_ending: str
    num_classes: int
    reduce_zero_label: bool = False

    def folders(self, split: str) -> tuple[Path, Path]:
        """Return the folders of images and of maps of `train` or `val`, relative to the data root."""
        return Path(self.images, self.splits[split]), Path(self.maps, self.splits[split])

    @property
    def folders_text(self) -> str:
        """Folders of the training split, for messages."""
        return ' and '.join(map(str, self.folders('train')))


# Zhou et al., arXiv 1608.05442.
ADE20K = MapLayout(
    name='ade20k',
    images='images',
    maps='annotations',
    splits={'train': 'training', 'val': 'validation'},
    image_ending='.jpg',
    map_ending='.png',
    num_classes=150,
    reduce_zero_label=True,
)
# Cordts et al., arXiv 1604.01685; the maps are those of cityscapesscripts' createTrainIdLabelImgs.
CITYSCAPES = MapLayout(
    name='cityscapes',
    images='leftImg8bit',
    maps='gtFine',
    splits={'train': 'train', 'val': 'val'},
    image_ending='_leftImg8bit.png',
    map_ending='_gtFine_labelTrainIds.png',
    num_classes=19,
)
# Caesar et al., arXiv 1612.03716; the maps are those of mmsegmentation's coco_stuff164k.py.
COCO_STUFF = MapLayout(
    name='coco_stuff',
    images='images',
    maps='annotations',
    splits={'train': 'train2017', 'val': 'val2017'},
    image_ending='.jpg',
    map_ending='_labelTrainIds.png',
    num_classes=171,
)
MAP_LAYOUTS = {layout.name: layout for layout in (ADE20K, CITYSCAPES, COCO_STUFF)}
