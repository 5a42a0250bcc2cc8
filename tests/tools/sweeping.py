"""Sweeps of small trainings that take seconds each, for tests of `tools/sweep.py`."""

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.commands import ROOT, option_list
from tests.tools.conftest import Trial

SECONDS = 240
NAME = 'upernet_dcn_micro'
# Imported by the jobs: a hook that slows a training down, and one that makes it fail.
MODULE = """
import time
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class SlowHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(0.5)

@HOOKS.register_module()
class FailingHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise RuntimeError('the dog ate it')
"""
LEAF = """
custom_imports = dict(imports=[*custom_imports['imports'], 'hooks_of_the_test'])
custom_hooks = [dict(type={hook!r})]
"""


@dataclass(frozen=True)
class Project:
    """Configs and output folder of a sweep.

    Attributes:
        folder: folder with `configs`, the module of hooks, and the root of the work dirs.
        trial: trial with the data and options of the small trainings.
    """

    folder: Path
    trial: Trial

    @property
    def root(self) -> Path:
        """Root of the work dirs."""
        return self.folder / 'runs'

    def add(self, name: str, hook: str) -> Path:
        """Add a config like the trial's, with one of the hooks above."""
        source = self.folder / 'configs/demo' / f'{NAME}.py'
        target = source.with_name(f'{name}.py')
        target.write_text(source.read_text() + LEAF.format(hook=hook))
        return target

    def arguments(self, *patterns: object, options: dict | None = None, more: tuple = ()) -> list[str]:
        """Return the command line of a sweep; `options` are more overrides, `more` are more options."""
        given = ['--work-dir', self.root, '--data-root', self.trial.data_root]
        overrides = option_list({**self.trial.options, **(options or {})})
        return [*map(str, [*patterns, *given, *more]), *overrides]

    def folder_of(self, name: str, seed: int) -> Path:
        """Return the work dir of a run."""
        return self.root / name / f'seed_{seed}'

    def record(self, name: str, seed: int) -> dict:
        """Return the record in the work dir of a run, or an empty record if there is none."""
        file = self.folder_of(name, seed) / 'sweep.json'
        return json.loads(file.read_text()) if file.is_file() else {'state': None}

    def starts(self, name: str, seed: int) -> list[str]:
        """Return what each training in the work dir of a run started from."""
        log = self.folder_of(name, seed) / 'output.log'
        text = log.read_text() if log.is_file() else ''
        return re.findall(r'training starts from (\S+)', text)

    def iterations(self, name: str, seed: int) -> list[int]:
        """Return every training step of a run in order, including repeated steps."""
        files = sorted(self.folder_of(name, seed).glob('*/vis_data/scalars.json'))
        entries = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [entry['step'] for entry in entries if 'loss' in entry]


def make_project(folder: Path, trial: Trial) -> Project:
    """Copy the configs of the suite to a folder, where tests add more."""
    shutil.copytree(ROOT / 'configs', folder / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
    (folder / 'hooks_of_the_test.py').write_text(MODULE)
    return Project(folder, trial)


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: the condition does not hold in time.
    """
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)
