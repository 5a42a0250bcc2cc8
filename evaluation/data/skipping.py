"""Goes on without images that cannot be used, where `--skip-bad-images` asks for it.

They are found before the start, by loading every image as the run will. So the data sets have one
length from the first step to the last, and the same on every process.
"""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import filterfalse, islice
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from evaluation.data.checked_loading import checked_pipeline, step_name
from evaluation.data.checks import build_dataset, note, plain_datasets, unpaired
from evaluation.data.coco_file import listed
from evaluation.data.image_files import ADVICE, BadFileError
from evaluation.utils.errors import UserError
from evaluation.utils.times import clock

LOADING = ('LoadCheckedImage', 'LoadCheckedSegmentationMap')
# Decoders release the interpreter's lock, so that threads do.
THREADS = min(8, os.cpu_count() or 1)
BLOCK = 1000
REPORT_SECONDS = 5.0
# Faults that are printed one by one; `result.json` names all images.
SHOWN = 20


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
    """Names of the images that cannot be loaded, relative to the data root; prints why.

    Args:
        dataset: with nothing but loading transforms in its pipeline.

    Raises:
        UserError: none can be loaded.
    """
    faults = dict(read_all(dataset))
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


def read_all(dataset: BaseDataset) -> Iterator[tuple[str, str]]:
    """Load every image; yield name and fault of those that cannot be."""

    def fault_of(index: int) -> tuple[str, str] | None:
        try:
            dataset.prepare_data(index)
        except BadFileError as error:
            name = relative_name(dataset, dataset.get_data_info(index)['img_path'])
            return name, str(error).removesuffix(f'; {ADVICE}')
        return None

    started = reported = time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        for begin in range(0, len(dataset), BLOCK):
            end = min(begin + BLOCK, len(dataset))
            yield from filter(None, threads.map(fault_of, range(begin, end)))
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                left = (reported - started) * (len(dataset) - end) / end
                note(f'  {end} of {len(dataset)} images read, about {clock(left)} left')


def relative_name(dataset: BaseDataset, path: str) -> str:
    """Path of an image from the data root."""
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
    """Number and names of the images that a data set's config leaves out, for `result.json`."""
    names = [name for part in plain_datasets(dataset) for name in part.get('left_out', [])]
    return {'count': len(names), 'names': names}
