"""Which configs, seeds and checkpoints a sweep is asked for."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.checkpoints.pointer import last_checkpoint
from evaluation.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """A config with a seed, or with a checkpoint to test.

    Attributes:
        config: file.
        folder: name of the work dir, in that of the config.
        seed: of the training; None in a test alone.
        checkpoint: to be tested; None in a training.
    """

    config: Path
    folder: str
    seed: int | None = None
    checkpoint: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return f'{self.config.stem}/{self.folder}'


def find_configs(patterns: Sequence[str]) -> list[Path]:
    """The files that any of some patterns matches, in the order of their names.

    Raises:
        UserError: a pattern matches no config, or two configs of one name would share a work dir.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        files = [Path(file) for file in sorted(glob.glob(pattern, recursive=True))]
        files = [file for file in files if file.suffix == '.py' and file.is_file()]
        if not files:
            raise UserError(
                f"no config matches {pattern}; give one such as 'configs/mask_rcnn_*_tiny.py'"
            )
        for file in files:
            found.setdefault(file.resolve(), file)
    by_name: dict[str, Path] = {}
    for file in found.values():
        other = by_name.setdefault(file.stem, file)
        if other is not file:
            raise UserError(
                f'{other} and {file} have one name and would share a work dir; '
                'sweep each by itself, with a --work-dir of its own'
            )
    return sorted(found.values(), key=lambda file: (file.stem, str(file)))


def trainings(configs: Sequence[Path], seeds: Sequence[int]) -> list[Wanted]:
    """Every config with every seed.

    Raises:
        UserError: a seed is given twice.
    """
    if len({*seeds}) < len(seeds):
        raise UserError(f'--seeds {" ".join(map(str, seeds))}: give each seed once')
    return [Wanted(config, f'seed_{seed}', seed) for config in configs for seed in seeds]


def evaluations(configs: Sequence[Path], folder: Path, seeds: Sequence[int] | None) -> list[Wanted]:
    """Every config with its checkpoints in a folder.

    These are, of the config `name`: `name.pth`, else the last one that a training left in `name`, else
    the last ones in `name/seed_<n>`, of the seeds that are given or of all that are there.

    Raises:
        UserError: the folder is not there, or holds no checkpoint of some config.
    """
    if not folder.is_dir():
        raise UserError(f'--test-only {folder} is not a folder; give one with checkpoints')
    found = [(config, *each) for config in configs for each in _checkpoints(config.stem, folder, seeds)]
    lacking = [config.stem for config in configs if config not in {config for config, *_ in found}]
    if lacking:
        name, more = lacking[0], f' (and of {len(lacking) - 1} more configs)' if lacking[1:] else ''
        wanted = '' if seeds is None else f' of the seeds {" ".join(map(str, seeds))}'
        raise UserError(
            f'--test-only {folder} holds no checkpoint of {name}{wanted}{more}; put it there as '
            f'{name}.pth, or the work dir of its training as {name}/ or {name}/seed_<n>/'
        )
    return [Wanted(config, place, checkpoint=str(file)) for config, place, file in found]


def _checkpoints(name: str, folder: Path, seeds: Sequence[int] | None) -> list[tuple[str, Path]]:
    """Names of work dirs for the tests, with the checkpoints."""
    alone = folder / f'{name}.pth'
    if alone.is_file():
        return [('test', alone)]
    last = last_checkpoint(folder / name)
    if last:
        return [('test', last)]
    if seeds is None:
        seeds = sorted(
            int(path.name[5:]) for path in (folder / name).glob('seed_*') if path.name[5:].isdigit()
        )
    lasts = {seed: last_checkpoint(folder / name / f'seed_{seed}') for seed in seeds}
    return [(f'test_seed_{seed}', file) for seed, file in lasts.items() if file]
