"""Work on many images in parts that outlive an interruption, shared among processes.

A part is a fixed number of images, however many processes there are, and parts are added up, or put one
after another, in their order. So the result has the same bits for any number of processes, and after any
number of interruptions.
"""

import hashlib
import io
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from mmengine.dist import init_dist

from evaluation.utils.devices import OutOfMemoryError, out_of_memory_raised, refused_beyond_free_memory
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_bytes
from evaluation.utils.formats import clock
from evaluation.utils.interruption import Interrupted
from evaluation.utils.process_groups import note

ITEMS_IN_A_PART = 8
REPORT_SECONDS = 5.0
# For the slowest process to finish after the fastest has.
PATIENCE = timedelta(days=1)

Item = TypeVar('Item')
Combine = Callable[[Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Parts:
    """Files of the parts.

    Attributes:
        folder: where they lie; its name says what they are parts of, so that none is taken for another.
        items: how many images there are in all.
    """

    folder: Path
    items: int

    def __len__(self) -> int:
        return math.ceil(self.items / ITEMS_IN_A_PART)

    def file(self, index: int) -> Path:
        """File of a part."""
        return self.folder / f'{index:05d}.npz'

    def missing(self) -> list[int]:
        """Parts that are not there yet."""
        return [index for index in range(len(self)) if not self.file(index).is_file()]

    def write(self, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a part whole."""
        write_bytes(self.file(index), npz_bytes(arrays))

    def arrays(self) -> Iterator[dict[str, np.ndarray]]:
        """Arrays of one part after another, in their order."""
        for index in range(len(self)):
            with np.load(self.file(index), allow_pickle=False) as arrays:
                yield {name: arrays[name] for name in arrays.files}

    def sum(self) -> dict[str, np.ndarray]:
        """Sum of each array over all parts, in their order and in float64."""
        total: dict[str, np.ndarray] = {}
        for arrays in self.arrays():
            for name, array in arrays.items():
                total[name] = total.get(name, 0.0) + array.astype(np.float64)
        return total

    def combined(self, combine: Combine) -> dict[str, np.ndarray]:
        """Each array of all parts, put together in their order.

        Args:
            combine: makes one array of several.
        """
        return combined(self.arrays(), combine)

    def remove(self) -> None:
        """Remove the files, and the folder above if it holds no others."""
        shutil.rmtree(self.folder)
        if not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()


def combined(
    dictionaries: Iterable[Mapping[str, np.ndarray]], combine: Combine
) -> dict[str, np.ndarray]:
    """The arrays of each name in several dictionaries as one.

    Args:
        dictionaries: of arrays; not all need to have every name.
        combine: makes one array of several, which are in the order of the dictionaries.
    """
    found: dict[str, list[np.ndarray]] = {}
    for arrays in dictionaries:
        for name, array in arrays.items():
            found.setdefault(name, []).append(array)
    return {name: combine(arrays) for name, arrays in found.items()}


def key_of(facts: Mapping) -> str:
    """A name for parts that depend on `facts`, which JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Content of an `.npz` file."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def join_processes(launcher: str) -> None:
    """Let the processes that a launcher started find each other; nothing to do where it is `none`.

    By gloo, since no more than lists of numbers is exchanged.
    """
    if launcher == 'pytorch':
        dist.init_process_group('gloo', timeout=PATIENCE)
    elif launcher != 'none':
        init_dist(launcher, backend='gloo', timeout=PATIENCE.total_seconds())


def is_main() -> bool:
    """Whether this process is the first, which writes the result."""
    return not dist.is_initialized() or dist.get_rank() == 0


def complete_parts(
    output: Path,
    facts: Mapping,
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Mapping[str, np.ndarray]],
    device: torch.device,
    memory_advice: str,
) -> Parts:
    """Make all parts that are missing; this process makes its share where there are several.

    Args:
        output: name of the result; parts are kept beside it until `Parts.remove`.
        facts: all that the parts depend on, so that unfinished work of anything else is not taken.
        items: all images, or what stands for them.
        work: arrays of the images of one part.
        device: where `work` runs.
        memory_advice: for what memory does not suffice, and what to do.

    Raises:
        UserError: memory does not suffice.
        Interrupted: it was interrupted; the command can be repeated to go on.
    """
    parts = Parts(output.with_suffix('.partial') / key_of(facts), len(items))
    try:
        with out_of_memory_raised(device), refused_beyond_free_memory(device):
            complete(parts, items, work)
    except OutOfMemoryError:
        raise UserError(f'memory does not suffice for {memory_advice}') from None
    return parts


def complete(
    parts: Parts, items: Sequence[Item], work: Callable[[Sequence[Item]], Mapping[str, np.ndarray]]
) -> None:
    """Make all parts that are missing, each by one process, and wait until all are there.

    Args:
        parts: where to write.
        items: all images, or what stands for them.
        work: arrays of the images of one part.

    Raises:
        Interrupted: it was interrupted; what was made until then is kept.
    """
    wanted = _agreed(parts.missing())
    if len(wanted) < len(parts):
        note(f'  {len(parts) - len(wanted)} of {len(parts)} parts are there from before')
    progress = Progress(parts, len(wanted))
    with _interruption_explained(parts):
        for index in _own_share(wanted):
            begin = index * ITEMS_IN_A_PART
            parts.write(index, work(items[begin : begin + ITEMS_IN_A_PART]))
            progress.report()
        if dist.is_initialized():
            dist.barrier()


class Progress:
    """Says now and then how much is done, by all processes, and when the end may be expected."""

    def __init__(self, parts: Parts, wanted: int) -> None:
        self._parts = parts
        self._wanted = wanted
        self._started = self._reported = time.monotonic()

    def report(self) -> None:
        """Say so, unless it was said a few seconds ago."""
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return
        missing = len(self._parts.missing())
        if not missing:
            return
        self._reported = now
        left = (now - self._started) * missing / (self._wanted - missing)
        done = (len(self._parts) - missing) * ITEMS_IN_A_PART
        note(f'  {min(done, self._parts.items)} of {self._parts.items} images, about {clock(left)} left')


def _agreed(indices: list[int]) -> list[int]:
    """What the first process found, since others may look when some parts have been made already."""
    if not dist.is_initialized():
        return indices
    found = [indices]
    dist.broadcast_object_list(found)
    return found[0]


def _own_share(indices: list[int]) -> list[int]:
    return indices[dist.get_rank() :: dist.get_world_size()] if dist.is_initialized() else indices


@contextmanager
def _interruption_explained(parts: Parts) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        kept = len(parts) - len(parts.missing())
        raise Interrupted(
            f'{kept} of {len(parts)} parts are kept in {parts.folder}; to go on, repeat the command'
        ) from None
