"""Small trainings to be disturbed, and what must be the same afterwards."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from evaluation.latest_checkpoint import read_whole_checkpoint
from tests.commands import Running
from tests.tools.conftest import Trial

SECONDS = 120
WORKERS = {'train_dataloader__num_workers': 2, 'train_dataloader__persistent_workers': True}
# Twelve checkpoints, three evaluations.
_LENGTHS = {
    'mask_rcnn': {
        'train_cfg__max_epochs': 12,
        'train_cfg__val_interval': 4,
        'default_hooks__checkpoint__interval': 1,
    },
    'upernet': {
        'train_cfg__max_iters': 36,
        'train_cfg__val_interval': 12,
        'default_hooks__checkpoint__interval': 3,
    },
}


@dataclass(frozen=True)
class Training:
    """A training of a few seconds that writes many checkpoints.

    Attributes:
        trial: config, data and options of a shorter one.
        end: stem of its last checkpoint.
    """

    trial: Trial
    end: str

    def command(self, work_dir: Path, *wishes: object, **options: object) -> list[object]:
        """Arguments of `tools/train.py`; `options` are overrides, with `__` for a dot."""
        length = _LENGTHS[self.trial.task]
        arguments = self.trial.arguments(**{**length, **options})
        return [self.trial.config, '--deterministic', '--work-dir', work_dir, *wishes, *arguments]


def trainings_of(trials: dict[str, Trial]) -> dict[str, Training]:
    """The trainings by task."""
    return {
        'mask_rcnn': Training(trials['mask_rcnn'], 'epoch_12'),
        'upernet': Training(trials['upernet'], 'iter_36'),
    }


def wait_until(condition: Callable[[], object], running: Running) -> None:
    """Wait until something is so, or a command has ended."""
    end = time.monotonic() + SECONDS
    while not condition() and not running.ended:
        assert time.monotonic() < end, 'it did not come to it'
        time.sleep(0.002)


def checkpoints(work_dir: Path) -> list[Path]:
    """Those with a final name, the oldest first."""
    return sorted(work_dir.glob('*_[0-9]*.pth'), key=lambda file: int(file.stem.partition('_')[2]))


def assert_whole(work_dir: Path) -> None:
    """Nothing under a final name is half-written, and `last_checkpoint` names what is there."""
    for file in checkpoints(work_dir):
        read_whole_checkpoint(str(file))
    pointer = work_dir / 'last_checkpoint'
    if pointer.is_file():
        assert Path(pointer.read_text()).is_file()
    for file in work_dir.rglob('result.json'):
        json.loads(file.read_text())


def metrics(work_dir: Path) -> dict[int, dict]:
    """Metrics and digest of the weights of every evaluation, by iteration."""
    results = [json.loads(file.read_text()) for file in sorted(work_dir.rglob('result.json'))]
    kept = ('metrics', 'per_class')
    return {
        result['iteration']: {
            **{key: result[key] for key in kept},
            'weights': result['checkpoint']['weights_sha256'],
        }
        for result in results
    }


def assert_same_end(work_dir: Path, reference: Path, end: str) -> None:
    """A training ended as another did: weights, optimizer, schedules, random numbers and metrics."""
    ours, theirs = (
        torch.load(folder / f'{end}.pth', weights_only=False) for folder in (work_dir, reference)
    )
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(ours[part], theirs[part], part)
    assert_equal(ours['meta']['random_states'], theirs['meta']['random_states'], 'random_states')
    assert metrics(work_dir) == metrics(reference)


def assert_equal(one: object, other: object, place: str) -> None:
    """Bit for bit, at any depth."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key, value in one.items():
            assert_equal(value, other[key], f'{place}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for index, (value, its) in enumerate(zip(one, other, strict=True)):
            assert_equal(value, its, f'{place}.{index}')
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif hasattr(one, 'tobytes'):
        assert one.tobytes() == other.tobytes(), place
    else:
        assert one == other, place


def data_workers(running: Running) -> list[psutil.Process]:
    """Processes that load data for a training."""
    return psutil.Process(running.process).children()


def steps_logged(work_dir: Path) -> int:
    """Lines of scalars that all starts of a training have written."""
    return sum(file.read_bytes().count(b'\n') for file in work_dir.glob('*/vis_data/scalars.json'))
