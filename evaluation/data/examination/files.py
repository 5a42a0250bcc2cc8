"""Looking at many image files at once, with progress and an estimate of the end."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from evaluation.data.image_files import ADVICE, BadFileError

# So many are handed out before the first has to be done.
BLOCK = 1000

Item = TypeVar('Item')


def bad_files(
    items: Sequence[Item], read: Callable[[Item], None], workers: int, what: str
) -> Iterator[tuple[Item, BadFileError]]:
    """Read files on several threads; yield those that cannot be used, in their order, and why.

    Args:
        items: what to read.
        read: reads one; raises `BadFileError` where it cannot be used.
        workers: threads.
        what: the bar's name.
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
    return tqdm(total=count, desc=what, unit=' files', mininterval=interval, maxinterval=2 * interval)


def reason(error: BadFileError, path: str) -> str:
    """What an error says of a file, without its name and without advice for a training."""
    return str(error).removeprefix(f'{path} ').removesuffix(f'; {ADVICE}')
