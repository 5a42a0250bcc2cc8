"""Small trainings for the fault tests, and checks of their final state."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from evaluation.engine.starting_point import read_whole_checkpoint
from tests.commands import Outcome, Running
from tests.tools.conftest import Trial

SECONDS = 120
WORKERS = {'train_dataloader__num_workers': 2, 'train_dataloader__persistent_workers': True}
# Number of checkpoints of a training, and number of checkpoints per evaluation.
CHECKPOINTS = {False: 4, True: 12}
EVALUATED = {False: 2, True: 4}
# UperNet's iterations per checkpoint; Mask R-CNN writes one per epoch of two iterations.
ITERATIONS = 3


@dataclass(frozen=True)
class Training:
    """A training of a few seconds that writes many checkpoints.

    Attributes:
        trial: config, data and options of a shorter training.
        checkpoints: stems of the checkpoint files, the last one of the last step.
        length: overrides that set the length.
    """

    trial: Trial
    checkpoints: tuple[str, ...]
    length: dict[str, int]

    @property
    def end(self) -> str:
        """Stem of the last checkpoint."""
        return self.checkpoints[-1]

    def command(self, work_dir: Path, *wishes: object, **options: object) -> list[object]:
        """Arguments of `tools/train.py`; `options` are overrides, with `__` for a dot."""
        arguments = self.trial.arguments(**{**self.length, **options})
        return [self.trial.config, '--deterministic', '--work-dir', work_dir, *wishes, *arguments]


def trainings_of(trials: dict[str, Trial], full: bool) -> dict[str, Training]:
    """Return the trainings by task."""
    numbers, evaluated = range(1, CHECKPOINTS[full] + 1), EVALUATED[full]
    return {
        'mask_rcnn': Training(
            trials['mask_rcnn'],
            tuple(f'epoch_{number}' for number in numbers),
            {
                'train_cfg__max_epochs': numbers[-1],
                'train_cfg__val_interval': evaluated,
                'default_hooks__checkpoint__interval': 1,
            },
        ),
        'upernet': Training(
            trials['upernet'],
            tuple(f'iter_{number * ITERATIONS}' for number in numbers),
            {
                'train_cfg__max_iters': numbers[-1] * ITERATIONS,
                'train_cfg__val_interval': evaluated * ITERATIONS,
                'default_hooks__checkpoint__interval': ITERATIONS,
            },
        ),
    }


def wait_until(condition: Callable[[], object], running: Running) -> None:
    """Wait until a condition holds or a command has ended."""
    end = time.monotonic() + SECONDS
    while not condition() and not running.ended:
        assert time.monotonic() < end, 'the condition did not hold in time'
        time.sleep(0.002)


def checkpoints(work_dir: Path) -> list[Path]:
    """Return the checkpoints with a final name, oldest first."""
    return sorted(work_dir.glob('*_[0-9]*.pth'), key=lambda file: int(file.stem.partition('_')[2]))


def assert_whole(work_dir: Path) -> None:
    """Check that no final file is half-written, and that `last_checkpoint` names an existing file."""
    for file in checkpoints(work_dir):
        read_whole_checkpoint(str(file))
    pointer = work_dir / 'last_checkpoint'
    if pointer.is_file():
        assert Path(pointer.read_text()).is_file()
    for file in work_dir.rglob('result.json'):
        json.loads(file.read_text())


def metrics(work_dir: Path) -> dict[int, dict]:
    """Return metrics and digest of the weights of every evaluation, by iteration."""
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
    """Check that two trainings have the same final weights, optimizer, random numbers and metrics."""
    ours, theirs = (
        torch.load(folder / f'{end}.pth', weights_only=False) for folder in (work_dir, reference)
    )
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(ours[part], theirs[part], part)
    assert_equal(ours['meta']['random_states'], theirs['meta']['random_states'], 'random_states')
    assert metrics(work_dir) == metrics(reference)


def assert_equal(one: object, other: object, place: str) -> None:
    """Check that two nested values are equal, bit for bit."""
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


def only_error(outcome: Outcome) -> str:
    """Return the only error line of a command that ended with status 2."""
    assert outcome.status == 2, outcome.stderr[-3000:]
    assert 'Traceback' not in outcome.stdout + outcome.stderr
    (line,) = (line for line in outcome.stderr.splitlines() if line.startswith('error:'))
    assert outcome.stderr.splitlines()[-1] == line
    return line


def data_workers(running: Running) -> list[psutil.Process]:
    """Return the processes that load data for a training."""
    return psutil.Process(running.process).children()


def scalars(work_dir: Path) -> dict[int, dict]:
    """Return the lines of a run's scalars that have a learning rate, by iteration."""
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {line['step']: line for line in lines if 'lr' in line}


def steps_logged(work_dir: Path) -> int:
    """Return the number of lines of scalars that all starts of a training have written."""
    return sum(file.read_bytes().count(b'\n') for file in work_dir.glob('*/vis_data/scalars.json'))
