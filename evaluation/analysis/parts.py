"""Resumable work on many images, in parts that several processes share.

A part has a fixed number of images, independent of the number of processes. Parts are summed or
concatenated in order, so the result is bitwise the same for any number of processes and interruptions.
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
# How long the fastest process waits for the slowest.
PATIENCE = timedelta(days=1)

Item = TypeVar('Item')
Combine = Callable[[Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Parts:
    """Files of the parts.

    Attributes:
        folder: folder of the files; its name identifies the work, so that parts are never mixed up.
        items: total number of images.
    """

    folder: Path
    items: int

    def __len__(self) -> int:
        return math.ceil(self.items / ITEMS_IN_A_PART)

    def file(self, index: int) -> Path:
        """Return the file of a part."""
        return self.folder / f'{index:05d}.npz'

    def missing(self) -> list[int]:
        """Return the indices of parts that have no file yet."""
        return [index for index in range(len(self)) if not self.file(index).is_file()]

    def write(self, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a part atomically."""
        write_bytes(self.file(index), npz_bytes(arrays))

    def arrays(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays of each part, in order."""
        for index in range(len(self)):
            with np.load(self.file(index), allow_pickle=False) as arrays:
                yield {name: arrays[name] for name in arrays.files}

    def sum(self) -> dict[str, np.ndarray]:
        """Return the sum of each array over all parts, in order and in float64."""
        total: dict[str, np.ndarray] = {}
        for arrays in self.arrays():
            for name, array in arrays.items():
                total[name] = total.get(name, 0.0) + array.astype(np.float64)
        return total

    def combined(self, combine: Combine) -> dict[str, np.ndarray]:
        """Combine each array over all parts, in order.

        Args:
            combine: function from several arrays to one.
        """
        return combined(self.arrays(), combine)

    def remove(self) -> None:
        """Remove the folder, and its parent if that is empty then."""
        shutil.rmtree(self.folder)
        if not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()


def combined(
    dictionaries: Iterable[Mapping[str, np.ndarray]], combine: Combine
) -> dict[str, np.ndarray]:
    """Combine the arrays that have the same name in several dictionaries.

    Args:
        dictionaries: dictionaries of arrays; names may be missing from some.
        combine: function from several arrays, in the order of the dictionaries, to one.
    """
    found: dict[str, list[np.ndarray]] = {}
    for arrays in dictionaries:
        for name, array in arrays.items():
            found.setdefault(name, []).append(array)
    return {name: combine(arrays) for name, arrays in found.items()}


def key_of(facts: Mapping) -> str:
    """Return a name for parts that depend on `facts`, which are JSON-serializable."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of an `.npz` file."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def join_processes(launcher: str) -> None:
    """Initialize the process group for a launcher; do nothing if it is `none`.

    The backend is gloo, since the processes exchange only lists of numbers.
    """
    if launcher == 'pytorch':
        dist.init_process_group('gloo', timeout=PATIENCE)
    elif launcher != 'none':
        init_dist(launcher, backend='gloo', timeout=PATIENCE.total_seconds())


def is_main() -> bool:
    """Return whether this is the main process, which writes the result."""
    return not dist.is_initialized() or dist.get_rank() == 0


def complete_parts(
    output: Path,
    facts: Mapping,
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Mapping[str, np.ndarray]],
    device: torch.device,
    memory_advice: str,
) -> Parts:
    """Compute all missing parts; each process computes its share.

    Args:
        output: file of the result; parts are kept next to it until `Parts.remove`.
        facts: everything that the parts depend on, so that only matching unfinished work is reused.
        items: all images, or objects that represent them.
        work: function from the items of one part to its arrays.
        device: device that `work` runs on.
        memory_advice: end of the error message: what does not fit in memory, and what to do.

    Raises:
        UserError: there is not enough memory.
        Interrupted: the user interrupted the work; running the same command again resumes it.
    """
    parts = Parts(output.with_suffix('.partial') / key_of(facts), len(items))
    try:
        with out_of_memory_raised(device), refused_beyond_free_memory(device):
            complete(parts, items, work)
    except OutOfMemoryError:
        raise UserError(f'not enough memory for {memory_advice}') from None
    return parts


def complete(
    parts: Parts, items: Sequence[Item], work: Callable[[Sequence[Item]], Mapping[str, np.ndarray]]
) -> None:
    """Compute all missing parts, each in one process, and wait until all exist.

    Args:
        parts: files to write.
        items: all images, or objects that represent them.
        work: function from the items of one part to its arrays.

    Raises:
        Interrupted: the user interrupted the work; finished parts are kept.
    """
    wanted = _agreed(parts.missing())
    if len(wanted) < len(parts):
        note(f'  resuming: {len(parts) - len(wanted)} of {len(parts)} parts are already finished')
    progress = Progress(parts, len(wanted))
    with _interruption_explained(parts):
        for index in _own_share(wanted):
            begin = index * ITEMS_IN_A_PART
            parts.write(index, work(items[begin : begin + ITEMS_IN_A_PART]))
            progress.report()
        if dist.is_initialized():
            dist.barrier()


class Progress:
    """Periodic reports of how many images all processes have finished, and of the time left."""

    def __init__(self, parts: Parts, wanted: int) -> None:
        self._parts = parts
        self._wanted = wanted
        self._started = self._reported = time.monotonic()

    def report(self) -> None:
        """Print a report, unless the last one is only a few seconds old."""
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
    """Return the indices that the main process found; others may look after some parts are finished."""
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
            f'{kept} of {len(parts)} parts are kept in {parts.folder}; to resume, run the same command '
            'again'
        ) from None
