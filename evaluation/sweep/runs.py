"""Runs requested on the command line: each config with each seed, with digests of its inputs."""

import functools
import glob
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config, ConfigDict

from evaluation.config.config_files import read_config
from evaluation.config.digests import add_digests
from evaluation.config.overrides import merge_options
from evaluation.config.recipe import contestant_name, declared_contestant
from evaluation.config.run_settings import (
    DEFAULT_SEED,
    check_run_settings,
    effective_batch_size,
    final_checkpoint,
    randomness,
)
from evaluation.config.whole_config import check_config
from evaluation.data.data_root import config_data_root, set_data_root
from evaluation.data.dataset_config import data_sha256, plain_datasets
from evaluation.data.startup_checks import check_layout
from evaluation.engine.checkpoints import candidates
from evaluation.engine.starting_point import use_pretrained
from evaluation.models.model_weights import starting_sources, starting_weights
from evaluation.sweep.decisions import start_name
from evaluation.sweep.record import Identity
from evaluation.sweep.work import RunTask
from evaluation.utils.errors import UserError, warn
from evaluation.utils.files import file_sha256

# No leading zeros, so that each seed has one name.
SEED = re.compile(r'seed_(0|[1-9][0-9]*)')
TRAINING = ('train_dataloader', 'val_dataloader')
TESTING = ('test_dataloader',)


@dataclass(frozen=True)
class Wanted:
    """A config with a seed, or with a checkpoint to test.

    Attributes:
        config: path of the config file.
        folder: name of the work dir inside the folder of the config.
        seed: random seed of the training; None for a test.
        checkpoint: checkpoint to test; None for a training.
    """

    config: Path
    folder: str
    seed: int | None = None
    checkpoint: str | None = None

    @property
    def name(self) -> str:
        """Name in messages."""
        return f'{self.config.stem}/{self.folder}'


def find_configs(patterns: Sequence[str]) -> list[Path]:
    """Return the configs that match any of the patterns, sorted by name.

    Raises:
        UserError: a pattern matches no config, or two configs with the same name would share a work dir.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        files = [Path(file) for file in sorted(glob.glob(pattern, recursive=True))]
        files = [file for file in files if file.suffix == '.py' and file.is_file()]
        if not files:
            raise UserError(
                f"no config matches {pattern}; give a pattern such as 'configs/mask_rcnn_*_tiny.py'"
            )
        for file in files:
            found.setdefault(file.resolve(), file)
    by_name: dict[str, Path] = {}
    for file in found.values():
        other = by_name.setdefault(file.stem, file)
        if other is not file:
            raise UserError(
                f'{other} and {file} have the same name and would share a work dir; '
                'run one sweep for each, with different --work-dir'
            )
    return sorted(found.values(), key=lambda file: (file.stem, str(file)))


def trainings(configs: Sequence[Path], seeds: Sequence[int]) -> list[Wanted]:
    """Return every config with every seed.

    Raises:
        UserError: a seed is given twice.
    """
    _check_seeds(seeds)
    return [Wanted(config, f'seed_{seed}', seed) for config in configs for seed in seeds]


def evaluations(configs: Sequence[Path], folder: Path, seeds: Sequence[int] | None) -> list[Wanted]:
    """Return every config with its checkpoints in a folder.

    With seeds, these are the last ones in `name/seed_<n>`. Without seeds, it is `name.pth`, otherwise
    the last one in `name`, otherwise the last one of each `name/seed_<n>`.

    Raises:
        UserError: the folder is missing, or has no checkpoint of a config or of a given seed.
    """
    if not folder.is_dir():
        raise UserError(f'--test-only {folder} is not a folder; give a folder with checkpoints')
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
            f'--test-only {folder} has no checkpoint of {", ".join(lacking)}; add '
            f'{alone}the work dir of its training as {places}'
        )
    return wanted


def _check_seeds(seeds: Sequence[int]) -> None:
    if len({*seeds}) < len(seeds):
        raise UserError(f'--seeds {" ".join(map(str, seeds))} has duplicates; give each seed once')


def _checkpoints(folder: Path, name: str) -> dict[str, Path]:
    """Return the checkpoints of a config, keyed by the work dir names of their tests."""
    alone = folder / f'{name}.pth'
    last = alone if alone.is_file() else _last(folder / name)
    if last:
        return {'test': last}
    matches = [SEED.fullmatch(path.name) for path in (folder / name).glob('seed_*')]
    return _checkpoints_of_seeds(folder / name, sorted(int(match[1]) for match in matches if match))


def _checkpoints_of_seeds(folder: Path, seeds: Sequence[int]) -> dict[str, Path]:
    """Return the last checkpoints of the seeds that have one, with the same keys."""
    lasts = {f'test_seed_{seed}': _last(folder / f'seed_{seed}') for seed in seeds}
    return {place: file for place, file in lasts.items() if file}


def _last(folder: Path) -> Path | None:
    return next(candidates(folder), None)


@dataclass(frozen=True)
class Wishes:
    """Command-line options that apply to every run.

    Attributes:
        root: folder of all work dirs.
        processes: number of processes of one training, over all machines.
        data_root: root folder of the data; None for that of each config.
        pretrained: initial weights; None for scratch.
        flags: options of `tools/train.py` that change what is computed, such as `--amp`.
        options: overrides of configs, by dotted keys.
    """

    root: Path
    processes: int = 1
    data_root: str | None = None
    pretrained: str | None = None
    flags: tuple[str, ...] = ()
    options: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A config with a seed, or with a checkpoint to test.

    Attributes:
        name: name in tables and messages.
        task: task of its job.
    """

    name: str
    task: RunTask


class Digests:
    """Cache of digests of data and files."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of_data(self, dataset: ConfigDict) -> str:
        """Return the SHA-256 of a data set.

        Raises:
            UserError: the data set is missing or unreadable.
        """
        key = json.dumps(dataset.to_dict(), sort_keys=True, default=repr)
        if key not in self._known:
            for part in plain_datasets(dataset):
                check_layout(part)
            try:
                self._known[key] = data_sha256(dataset)
            except OSError as error:
                raise UserError(f'{error.filename} cannot be read ({error.strerror})') from error
        return self._known[key]

    def of_file(self, file: str) -> str:
        """Return the SHA-256 of a file.

        Raises:
            UserError: the file cannot be read.
        """
        if file not in self._known:
            try:
                self._known[file] = file_sha256(Path(file))
            except OSError as error:
                raise UserError(f'{file} cannot be read ({error.strerror})') from error
        return self._known[file]


def own_seed(config: Path, options: dict[str, object]) -> int:
    """Return the seed set in a config, 0 if there is none.

    Args:
        config: path of the config file; an invalid file is rejected later, without ending the sweep.
        options: overrides of the config.
    """
    try:
        cfg = read_config(str(config))
        merge_options(cfg, options)
        return randomness(cfg, None, is_deterministic=False)['seed']
    except UserError:
        return DEFAULT_SEED


def make_run(wanted: Wanted, wishes: Wishes, digests: Digests) -> Run:
    """Check a config, its data and its initial weights, and return the run.

    Raises:
        UserError: one of them is missing or invalid.
    """
    is_test = wanted.checkpoint is not None
    cfg = read_config(str(wanted.config))
    merge_options(cfg, wishes.options)
    add_digests(cfg)
    digest, old_digest = cfg.config_sha256, cfg.config_sha256_version_1
    check_config(cfg, TESTING if is_test else (*TRAINING, *TESTING), wishes.processes)
    check_run_settings(cfg)
    check_start_of_sweep(cfg, wanted.config)
    data_root = data_root_of(cfg, wishes.data_root)
    if data_root:
        set_data_root(cfg, data_root, TESTING if is_test else (*TRAINING, *TESTING))
    folder = wishes.root / wanted.config.stem / wanted.folder
    if cfg.get('work_dir'):
        warn_of_work_dir(wanted.config, cfg.work_dir, wishes.root / wanted.config.stem)
    common = common_arguments(folder, digest, data_root, wishes.options)
    evaluated = digests.of_data(cfg.test_dataloader.dataset)
    config = str(wanted.config)
    if is_test:
        identity = Identity(
            digest,
            evaluated,
            checkpoint_sha256=digests.of_file(wanted.checkpoint),
            config_sha256_version_1=old_digest,
        )
        task = RunTask(folder, config, identity, None, tuple(common), None, wanted.checkpoint)
        return Run(wanted.name, task)
    pretrained = pretrained_of(wishes.pretrained, cfg, wanted.seed)
    flags = flags_of(cfg, wishes.flags)
    start, start_sha256 = start_of(cfg, pretrained, digests)
    identity = Identity(
        digest,
        evaluated,
        seed=wanted.seed,
        training_data_sha256=digests.of_data(cfg.train_dataloader.dataset),
        start=start,
        start_sha256=start_sha256,
        batch_size=effective_batch_size(cfg, wishes.processes),
        options=flags,
        config_sha256_version_1=old_digest,
    )
    training = [*common, '--seed', str(wanted.seed), *flags]
    training += ['--pretrained', pretrained] if pretrained else []
    task = RunTask(folder, config, identity, tuple(training), tuple(common), final_checkpoint(cfg))
    return Run(wanted.name, task)


def check_start_of_sweep(cfg: Config, config: Path) -> None:
    """Check that a config leaves resuming to the sweep.

    Raises:
        UserError: the config names a checkpoint from which every seed would resume.
    """
    if cfg.get('resume') and cfg.get('load_from'):
        raise UserError(
            f'{config} resumes from {cfg.load_from} (load_from with resume=True), but every run of a '
            'sweep starts from the beginning; remove resume'
        )


@functools.cache
def warn_of_work_dir(config: Path, own: str, folder: Path) -> None:
    """Warn, once per config, that the sweep ignores its work_dir."""
    warn(f'{config}: work_dir={own} is ignored; the sweep writes its runs to {folder}')


def flags_of(cfg: Config, flags: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options that change what is computed, including those of the config."""
    is_deterministic = randomness(cfg, None, '--deterministic' in flags)['deterministic']
    others = tuple(flag for flag in flags if flag != '--deterministic')
    return ('--deterministic', *others) if is_deterministic else others


def common_arguments(
    folder: Path, digest: str, data_root: str | None, options: dict[str, object]
) -> list[str]:
    """Return the options that trainings and tests share, with the overrides at the end.

    Args:
        folder: folder of the run.
        digest: digest of the config, which may be edited before the job reads it.
        data_root: root folder of the data; None for that of the config.
        options: overrides, by dotted keys.
    """
    arguments = ['--work-dir', str(folder), '--config-sha256', digest]
    arguments += ['--data-root', data_root] if data_root else []
    for key, value in options.items():
        arguments += ['--cfg-options', f'{key}={value!r}']
    return arguments


def data_root_of(cfg: Config, wish: str | None) -> str | None:
    """Return the data root of a config: `wish`, or the folder in it named like the config's data root.

    For `data/ade/ADEChallengeData2016` in `/datasets`, that is `ade/ADEChallengeData2016` or
    `ADEChallengeData2016`.
    """
    if wish is None:
        return None
    wish = os.path.expanduser(wish)
    parts = Path(config_data_root(cfg) or '').parts
    inside = [Path(wish, *parts[start:]) for start in range(1, len(parts))]
    return str(next((folder for folder in inside if folder.is_dir()), wish))


def pretrained_of(wish: str | None, cfg: Config, seed: int | None) -> str | None:
    """Return the initial weights of a run, with `{name}`, `{mixer}`, `{scale}` and `{seed}` filled in.

    Args:
        wish: value of `--pretrained`.
        cfg: config of the training.
        seed: seed of the training.

    Raises:
        UserError: a placeholder is unknown, or its value is not declared in the config.
    """
    if wish is None or '{' not in wish:
        return wish
    declared = declared_contestant(cfg)
    mixer = (cfg.model.backbone.get('mixer') or {}).get('type')
    names = {
        'name': contestant_name(cfg),
        'mixer': declared.get('mixer', mixer),
        'scale': declared.get('scale'),
        'seed': seed,
    }
    for name, value in names.items():
        if value is None and f'{{{name}}}' in wish:
            raise UserError(
                f'--pretrained {wish}: {cfg.filename} declares no {name}; add the line '
                f"contestant = dict({name}='...')"
            )
        wish = wish.replace(f'{{{name}}}', str(value))
    if '{' in wish or '}' in wish:
        raise UserError(f'--pretrained {wish}: unknown name in braces; use only {", ".join(names)}')
    return wish


def start_of(cfg: Config, pretrained: str | None, digests: Digests) -> tuple[str, str | None]:
    """Return the name of the initial weights and the digest of their files (None without files).

    Args:
        cfg: config of the training; modified as in the training.
        pretrained: value of `--pretrained`.
        digests: cache of digests.

    Raises:
        UserError: a file is missing, or there are no released weights.
    """
    if pretrained:
        use_pretrained(cfg, pretrained)
    files = [source for source in starting_sources(cfg) if '://' not in source]
    found = [digests.of_file(file) for file in files]
    several = hashlib.sha256(' '.join(found).encode()).hexdigest() if len(found) > 1 else None
    return start_name(starting_weights(cfg)), several or next(iter(found), None)
