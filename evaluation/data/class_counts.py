"""Whether heads and transforms of a config count the classes that its data sets have."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS

from evaluation.data.coco_file import listed
from evaluation.utils.errors import UserError


def dataset_class(dataset: ConfigDict, scope: str) -> type:
    """The class of a data set, looked up in the library of a scope."""
    # One that some images are left out of has its own type beside that of `evaluation.data.skipping`.
    name = dataset.get('dataset_type', dataset.type)
    return DATASETS.get(name if '.' in name else f'{scope}.{name}')


def class_names(dataset: ConfigDict, scope: str) -> list[str]:
    """Names of a data set's classes, in the order of the labels.

    Raises:
        UserError: there are none, a text stands where a list belongs, or the data set has no such class.
    """
    known = dataset_class(dataset, scope).METAINFO.get('classes')
    own = dataset.get('metainfo', {}).get('classes', known)
    if own is None:
        raise UserError(f'a data set of type {dataset.type} needs metainfo.classes, a list of names')
    if type(own) is str and not Path(own).is_file():
        raise UserError(f"metainfo.classes is the text '{own}'; for a single class write ['{own}']")
    if type(own) is str:
        own = Path(own).read_text(encoding='utf-8').splitlines()
    if scope == 'mmseg' and known:
        # mmseg maps the file's labels to a part of the classes; mmdet goes by the names in the file.
        strange = [name for name in own if name not in known]
        if strange:
            raise UserError(
                f'{dataset.type} has no class {listed(strange)}; for classes of your own use '
                'BaseSegDataset'
            )
    return list(own)


def check_class_counts(cfg: Config, loader: str, classes: Sequence[str]) -> None:
    """Compare every `num_classes` of model and transforms with the classes of a loader's data set.

    Raises:
        UserError: one differs; the message names it.
    """
    places = {
        # What proposes regions tells only things from background.
        'model': {key: part for key, part in cfg.model.items() if key != 'rpn_head'},
        loader: cfg[loader],
        'tta_pipeline': cfg.get('tta_pipeline', []),
    }
    for place, count in class_counts(places):
        if count != len(classes):
            raise UserError(
                f'{place} is {count}, but the data set of {loader} has {len(classes)} classes '
                f'({listed(classes)}); make them equal'
            )


def class_counts(value: Any, place: str = '') -> Iterator[tuple[str, int]]:
    """Each `num_classes` at any depth of a config, with its dotted name."""
    if isinstance(value, dict):
        entries = value.items()
    else:
        entries = enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, part in entries:
        name = f'{place}.{key}' if place else str(key)
        if key == 'num_classes':
            yield name, part
        else:
            yield from class_counts(part, name)
