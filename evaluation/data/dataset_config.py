"""Read what the config of a data set says: its parts, paths, class and classes."""

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from evaluation.data.coco_file import listed
from evaluation.utils.errors import UserError


def plain_datasets(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Yield the configs of data sets inside wrappers that repeat or join them."""
    inner = dataset.get('datasets', [dataset.dataset] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for part in inner:
        yield from plain_datasets(part)


def path_of(dataset: ConfigDict, name: str) -> Path:
    """Return the path of a name that is relative to a data set's root."""
    return Path(dataset.get('data_root') or '', name)


def dataset_class(dataset: ConfigDict, scope: str) -> type:
    """Return the class of a data set, looked up in the library of a scope."""
    # One that some images are left out of has its own type beside that of `evaluation.data.bad_images`.
    name = dataset.get('dataset_type', dataset.type)
    return DATASETS.get(name if '.' in name else f'{scope}.{name}')


def class_names(dataset: ConfigDict, scope: str) -> list[str]:
    """Return the names of a data set's classes, in the order of the labels.

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


def lister_of(dataset: ConfigDict, scope: str) -> str:
    """Return the name of the function that lists a data set's images, which tells what files it reads.

    Not the data set's class: one derived from another may read files of another kind.
    """
    return dataset_class(dataset, scope).load_data_list.__qualname__


def step_name(step: dict) -> str:
    """Return the name of a transform in a config, without its library."""
    kind = step['type']
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition('.')[2]
