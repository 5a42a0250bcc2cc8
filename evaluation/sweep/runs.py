"""Runs requested on the command line: each config with each seed, with digests of its inputs."""

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from evaluation.config.config_files import read_config
from evaluation.config.contestants import (
    open_config,
)
from evaluation.config.digests import add_digests
from evaluation.config.overrides import merge_options
from evaluation.config.protocols import NO_PROTOCOL, ProtocolOptions
from evaluation.config.run_settings import (
    DEFAULT_SEED,
    check_run_settings,
    effective_batch_size,
    final_checkpoint,
    randomness,
)
from evaluation.config.whole_config import check_config
from evaluation.data.data_root import data_root_of, set_data_root
from evaluation.data.startup_checks import Digests
from evaluation.engine.checkpoints import candidates
from evaluation.engine.pretrained_weights import pretrained_of
from evaluation.engine.starting_point import check_frozen_start, use_pretrained
from evaluation.models.model_weights import starting_sources, starting_weights
from evaluation.sweep.decisions import start_name
from evaluation.sweep.entries import Entry
from evaluation.sweep.record import Identity
from evaluation.sweep.work import RunTask
from evaluation.utils.errors import UserError, warn

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
        entry: name of the config with its backbone; None for that of the file.
        backbone: name of the backbone; None for that of the config.
    """

    config: Path
    folder: str
    seed: int | None = None
    checkpoint: str | None = None
    entry: str | None = None
    backbone: str | None = None

    @property
    def title(self) -> str:
        """Name of the folder of its work dirs."""
        return self.entry or self.config.stem

    @property
    def name(self) -> str:
        """Name in messages."""
        return f'{self.title}/{self.folder}'


def trainings(entries: Sequence[Entry], seeds: Sequence[int]) -> list[Wanted]:
    """Return every config with every seed.

    Raises:
        UserError: a seed is given twice.
    """
    _check_seeds(seeds)
    return [
        Wanted(each.config, f'seed_{seed}', seed, entry=each.name, backbone=each.backbone)
        for each in entries
        for seed in seeds
    ]


def evaluations(entries: Sequence[Entry], folder: Path, seeds: Sequence[int] | None) -> list[Wanted]:
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
    for each in entries:
        if seeds is None:
            found = _checkpoints(folder, each.name)
            lacking += [] if found else [each.name]
        else:
            found = _checkpoints_of_seeds(folder / each.name, seeds)
            lacking += [f'{each.name}/seed_{n}' for n in seeds if f'test_seed_{n}' not in found]
        wanted += [
            Wanted(each.config, place, None, str(file), each.name, each.backbone)
            for place, file in found.items()
        ]
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
        protocol: protocol and fraction of all runs.
    """

    root: Path
    processes: int = 1
    data_root: str | None = None
    pretrained: str | None = None
    flags: tuple[str, ...] = ()
    options: dict[str, object] = field(default_factory=dict)
    protocol: ProtocolOptions = NO_PROTOCOL


@dataclass(frozen=True)
class Run:
    """A config with a seed, or with a checkpoint to test.

    Attributes:
        name: name in tables and messages.
        task: task of its job.
    """

    name: str
    task: RunTask


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
    cfg, _ = open_config(str(wanted.config), wanted.backbone, wishes.options, wishes.protocol)
    add_digests(cfg)
    digest, old_digest = cfg.config_sha256, cfg.config_sha256_version_1
    check_config(cfg, TESTING if is_test else (*TRAINING, *TESTING), wishes.processes)
    check_run_settings(cfg)
    check_start_of_sweep(cfg, wanted.config)
    data_root = data_root_of(cfg, wishes.data_root)
    if data_root:
        set_data_root(cfg, data_root, TESTING if is_test else (*TRAINING, *TESTING))
    folder = wishes.root / wanted.title / wanted.folder
    if cfg.get('work_dir'):
        warn_of_work_dir(wanted.config, cfg.work_dir, wishes.root / wanted.title)
    common = common_arguments(folder, digest, data_root, wanted.backbone, wishes.options)
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
    check_frozen_start(cfg, pretrained)
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
    training = [*common, '--seed', str(wanted.seed), *flags, *wishes.protocol.arguments]
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
    folder: Path,
    digest: str,
    data_root: str | None,
    backbone: str | None,
    options: dict[str, object],
) -> list[str]:
    """Return the options that trainings and tests share, with the overrides at the end.

    Args:
        folder: folder of the run.
        digest: digest of the config, which may be edited before the job reads it.
        data_root: root folder of the data; None for that of the config.
        backbone: name of the backbone; None for that of the config.
        options: overrides, by dotted keys.
    """
    arguments = ['--work-dir', str(folder), '--config-sha256', digest]
    arguments += ['--backbone', backbone] if backbone else []
    arguments += ['--data-root', data_root] if data_root else []
    for key, value in options.items():
        arguments += ['--cfg-options', f'{key}={value!r}']
    return arguments


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
