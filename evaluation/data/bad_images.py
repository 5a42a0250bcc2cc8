"""Find images that cannot be used, and skip them with `--skip-bad-images`.

Every image is loaded before the start, exactly as the run will load it. So the length of a data set
never changes during a run, and is the same on every process.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import filterfalse, islice
from typing import Any, TypeVar

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from tqdm import tqdm

from evaluation.data.coco_file import listed
from evaluation.data.dataset_config import plain_datasets, step_name
from evaluation.data.image_files import ADVICE, BadFileError
from evaluation.data.image_loading import build_dataset, checked_pipeline
from evaluation.data.startup_checks import unpaired
from evaluation.utils.errors import UserError
from evaluation.utils.process_groups import note, process_rank

LOADING = ('LoadCheckedImage', 'LoadCheckedSegmentationMap')
THREADS = min(8, os.cpu_count() or 1)
# Number of faults to print; `result.json` names all skipped images.
SHOWN = 20
# Number of files handed to the threads at once.
BLOCK = 1000
Item = TypeVar('Item')


def leave_out_bad_images(cfg: Config, loaders: Sequence[str]) -> None:
    """Remove the images that cannot be loaded from the data sets of the given loaders.

    Raises:
        UserError: no image is left, or a pipeline has no transform that checks images.
    """
    for loader in loaders:
        for dataset in plain_datasets(cfg[loader].dataset):
            checked = checked_pipeline(dataset, cfg.default_scope)
            pipeline = [step for step in checked if step_name(step) in LOADING]
            if not pipeline:
                raise UserError(f'--skip-bad-images needs {LOADING[0]} in the pipeline of {loader}')
            built = build_dataset(dataset, cfg.default_scope, pipeline)
            bad = bad_images(built)
            if bad:
                dataset.dataset_type = dataset.get('dataset_type', dataset.type)
                dataset.type = dataset_without.__name__
                dataset.left_out = sorted({*dataset.get('left_out', []), *bad})


def bad_images(dataset: BaseDataset) -> list[str]:
    """Return the names of images that cannot be loaded, relative to the data root, and print why.

    Args:
        dataset: data set whose pipeline has only loading transforms.

    Raises:
        UserError: no image can be loaded.
    """
    faults = {}
    for index, error in bad_files(range(len(dataset)), dataset.prepare_data, THREADS, 'images'):
        path = dataset.get_data_info(index)['img_path']
        faults[relative_name(dataset, path)] = str(error).removesuffix(f'; {ADVICE}')
    if len(faults) == len(dataset):
        first = next(iter(faults.values()), 'there are none')
        raise UserError(f'none of the {len(dataset)} images can be used (the first: {first})')
    if 'seg_map_path' in dataset.data_prefix:
        for path in filterfalse(os.path.exists, unpaired(dataset)[1]):
            faults[relative_name(dataset, path)] = f'{path} is missing'
    for fault in islice(faults.values(), SHOWN):
        note(f'skipped: {fault}')
    note(f'{len(faults)} images skipped, {len(dataset)} checked')
    return list(faults)


def relative_name(dataset: BaseDataset, path: str) -> str:
    """Return the path of an image relative to the data root."""
    return os.path.relpath(path, dataset.data_root or '.')


@DATASETS.register_module()
def dataset_without(dataset_type: str, left_out: Sequence[str], **settings: Any) -> BaseDataset:
    """Build a data set without some of its images.

    Args:
        dataset_type: registered name of the data set's class.
        left_out: names of the images to skip, relative to the data root.
        **settings: settings of the data set, checked by its class.
    """
    dataset = DATASETS.build({'type': dataset_type, **settings})
    left_out = set(left_out)
    names = [relative_name(dataset, dataset.get_data_info(i)['img_path']) for i in range(len(dataset))]
    dataset.get_subset_([i for i, name in enumerate(names) if name not in left_out])
    message = f'{len(names) - len(dataset)} of {len(names)} images skipped ({listed(sorted(left_out))})'
    print_log(f'{dataset.data_root}: {message}', logger='current')
    return dataset


def images_skipped(dataset: ConfigDict) -> dict[str, Any]:
    """Return the number and the names of the images that a config skips, for `result.json`."""
    names = [name for part in plain_datasets(dataset) for name in part.get('left_out', [])]
    return {'count': len(names), 'names': names}


def bad_files(
    items: Sequence[Item], read: Callable[[Item], None], workers: int, what: str
) -> Iterator[tuple[Item, BadFileError]]:
    """Read files on several threads; yield those that cannot be used, in order, with their errors.

    Args:
        items: items to read.
        read: function that reads one item; raises `BadFileError` if the item cannot be used.
        workers: number of threads.
        what: title of the progress bar.
    """

    def fault_of(item: Item) -> BadFileError | None:
        try:
            read(item)
        except BadFileError as error:
            return error
        return None

    # Threads are enough: decoders release the GIL.
    with ThreadPoolExecutor(workers) as threads, _bar(len(items), what) as bar:
        for start in range(0, len(items), BLOCK):
            block = items[start : start + BLOCK]
            for item, error in zip(block, threads.map(fault_of, block), strict=True):
                bar.update()
                if error:
                    yield item, error


def _bar(count: int, what: str) -> tqdm:
    # A terminal gets a smooth bar; a log gets an occasional line.
    interval = 0.1 if sys.stderr.isatty() else 10.0
    intervals = {'mininterval': interval, 'maxinterval': 2 * interval}
    return tqdm(total=count, desc=what, unit=' files', disable=process_rank() != 0, **intervals)


def reason(error: BadFileError, path: str) -> str:
    """Return the text of an error without the file name and the advice for training."""
    return str(error).removeprefix(f'{path} ').removesuffix(f'; {ADVICE}')
