"""Find images that cannot be used, and leave them out where `--skip-bad-images` asks for it.

They are found before the start, by loading every image as the run will. So the data sets have one
length from the first step to the last, and the same on every process.
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
# Faults that are printed one by one; `result.json` names all images.
SHOWN = 20
# So many files are handed to the threads at once.
BLOCK = 1000
Item = TypeVar('Item')


def leave_out_bad_images(cfg: Config, loaders: Sequence[str]) -> None:
    """Take the images that cannot be loaded out of the data sets of some loaders.

    Raises:
        UserError: no image is left, or the pipeline has no transform that would tell.
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
        dataset: with nothing but loading transforms in its pipeline.

    Raises:
        UserError: none can be loaded.
    """
    faults = {}
    for index, error in bad_files(range(len(dataset)), dataset.prepare_data, THREADS, 'images'):
        path = dataset.get_data_info(index)['img_path']
        faults[relative_name(dataset, path)] = str(error).removesuffix(f'; {ADVICE}')
    if len(faults) == len(dataset):
        first = next(iter(faults.values()), 'there is none')
        raise UserError(f'none of the {len(dataset)} images can be used, the first since {first}')
    if 'seg_map_path' in dataset.data_prefix:
        for path in filterfalse(os.path.exists, unpaired(dataset)[1]):
            faults[relative_name(dataset, path)] = f'{path} is missing'
    for fault in islice(faults.values(), SHOWN):
        note(f'left out: {fault}')
    note(f'{len(faults)} images left out, {len(dataset)} looked at')
    return list(faults)


def relative_name(dataset: BaseDataset, path: str) -> str:
    """Return the path of an image relative to the data root."""
    return os.path.relpath(path, dataset.data_root or '.')


@DATASETS.register_module()
def dataset_without(dataset_type: str, left_out: Sequence[str], **settings: Any) -> BaseDataset:
    """Build a data set without some of its images.

    Args:
        dataset_type: what it is.
        left_out: names of the images, relative to the data root.
        **settings: of that type, which refuses those that it does not know.
    """
    dataset = DATASETS.build({'type': dataset_type, **settings})
    left_out = set(left_out)
    names = [relative_name(dataset, dataset.get_data_info(i)['img_path']) for i in range(len(dataset))]
    dataset.get_subset_([i for i, name in enumerate(names) if name not in left_out])
    message = f'{len(names) - len(dataset)} of {len(names)} images left out ({listed(sorted(left_out))})'
    print_log(f'{dataset.data_root}: {message}', logger='current')
    return dataset


def images_skipped(dataset: ConfigDict) -> dict[str, Any]:
    """Return number and names of the images that a config leaves out, for `result.json`."""
    names = [name for part in plain_datasets(dataset) for name in part.get('left_out', [])]
    return {'count': len(names), 'names': names}


def bad_files(
    items: Sequence[Item], read: Callable[[Item], None], workers: int, what: str
) -> Iterator[tuple[Item, BadFileError]]:
    """Read files on several threads; yield those that cannot be used, in order, with their errors.

    Args:
        items: what to read.
        read: reads one; raises `BadFileError` where it cannot be used.
        workers: threads.
        what: title of the progress bar.
    """

    def fault_of(item: Item) -> BadFileError | None:
        try:
            read(item)
        except BadFileError as error:
            return error
        return None

    # Decoders release the interpreter's lock, so that threads do.
    with ThreadPoolExecutor(workers) as threads, _bar(len(items), what) as bar:
        for start in range(0, len(items), BLOCK):
            block = items[start : start + BLOCK]
            for item, error in zip(block, threads.map(fault_of, block), strict=True):
                bar.update()
                if error:
                    yield item, error


def _bar(count: int, what: str) -> tqdm:
    # A log gets a line now and then, a terminal a bar.
    interval = 0.1 if sys.stderr.isatty() else 10.0
    intervals = {'mininterval': interval, 'maxinterval': 2 * interval}
    return tqdm(total=count, desc=what, unit=' files', disable=process_rank() != 0, **intervals)


def reason(error: BadFileError, path: str) -> str:
    """Return an error's text without the file's name and without advice for a training."""
    return str(error).removeprefix(f'{path} ').removesuffix(f'; {ADVICE}')
