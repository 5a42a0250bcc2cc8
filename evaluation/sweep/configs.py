"""Which configs, seeds and checkpoints a sweep is asked for."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.engine.checkpoints.pointer import candidates
from evaluation.utils.errors import UserError

# Of zeros before, a number could have two names.
SEED = re.compile(r'seed_(0|[1-9][0-9]*)')


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
    _check_seeds(seeds)
    return [Wanted(config, f'seed_{seed}', seed) for config in configs for seed in seeds]


def evaluations(configs: Sequence[Path], folder: Path, seeds: Sequence[int] | None) -> list[Wanted]:
    """Every config with its checkpoints in a folder.

    Of the config `name` they are the last ones in `name/seed_<n>`, where seeds are given; else
    `name.pth`, else the last one that a training left in `name`, else those of all seeds that are there.

    Raises:
        UserError: the folder is not there, or holds no checkpoint of some config, or of a seed that is
            given.
    """
    if not folder.is_dir():
        raise UserError(f'--test-only {folder} is not a folder; give one with checkpoints')
    _check_seeds(seeds or ())
    wanted, lacking = [], []
    for config in configs:
        if seeds is None:
            found = _checkpoints(folder, config.stem)
            lacking += [] if found else [config.stem]
        else:
            found = _checkpoints_of_seeds(folder / config.stem, seeds)
            lacking += [f'{config.stem}/seed_{n}' for n in seeds if f'test_seed_{n}' not in found]
        wanted += [Wanted(config, place, checkpoint=str(file)) for place, file in found.items()]
    if lacking:
        places = 'NAME/seed_<n>/' if seeds else 'NAME/ or NAME/seed_<n>/'
        alone = '' if seeds else 'its checkpoint as NAME.pth, or '
        raise UserError(
            f'--test-only {folder} holds no checkpoint of {", ".join(lacking)}; put there '
            f'{alone}the work dir of its training as {places}'
        )
    return wanted


def _check_seeds(seeds: Sequence[int]) -> None:
    if len({*seeds}) < len(seeds):
        raise UserError(f'--seeds {" ".join(map(str, seeds))}: give each seed once')


def _checkpoints(folder: Path, name: str) -> dict[str, Path]:
    """The checkpoints of a config, by the names of work dirs for their tests."""
    alone = folder / f'{name}.pth'
    last = alone if alone.is_file() else _last(folder / name)
    if last:
        return {'test': last}
    matches = [SEED.fullmatch(path.name) for path in (folder / name).glob('seed_*')]
    return _checkpoints_of_seeds(folder / name, sorted(int(match[1]) for match in matches if match))


def _checkpoints_of_seeds(folder: Path, seeds: Sequence[int]) -> dict[str, Path]:
    """Likewise, of the seeds that have one."""
    lasts = {f'test_seed_{seed}': _last(folder / f'seed_{seed}') for seed in seeds}
    return {place: file for place, file in lasts.items() if file}


def _last(folder: Path) -> Path | None:
    return next(candidates(folder), None)
