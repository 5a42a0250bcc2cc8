"""From the command line to runs: each config with each seed, with the digests of all it depends on."""

import functools
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config, ConfigDict

from evaluation.config.checkpoint_names import final_checkpoint
from evaluation.config.checks import check_config
from evaluation.config.digests import add_digests
from evaluation.config.effective_batch import effective_batch_size
from evaluation.config.file import LEAF, read_config
from evaluation.config.options import merge_options
from evaluation.config.run_settings import DEFAULT_SEED, check_run_settings, randomness
from evaluation.data.checks import check_layout, plain_datasets
from evaluation.data.digest import data_sha256
from evaluation.data.root import config_data_root, set_data_root
from evaluation.engine.starting_point import use_pretrained
from evaluation.models.starting_weights import starting_sources, starting_weights
from evaluation.sweep.configs import Wanted
from evaluation.sweep.findings import start_name
from evaluation.sweep.identity import Identity
from evaluation.sweep.work import Task
from evaluation.utils.errors import UserError, warn
from evaluation.utils.files import file_sha256

TRAINING = ('train_dataloader', 'val_dataloader')
TESTING = ('test_dataloader',)


@dataclass(frozen=True)
class Wishes:
    """What the command line asks of every run.

    Attributes:
        root: folder of all work dirs.
        processes: of one training, on all its machines.
        data_root: of the data; None for the configs' own.
        pretrained: what to start from; None for scratch.
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
        name: what tables and messages call it.
        task: what a job is to do.
        iterations: that the training takes; None where it counts epochs.
        epochs: that it takes; None where it counts iterations.
    """

    name: str
    task: Task
    iterations: int | None = None
    epochs: int | None = None


class Digests:
    """Digests of data and files, each computed once however many runs use it."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of_data(self, dataset: ConfigDict) -> str:
        """SHA-256 of a data set.

        Raises:
            UserError: it is not there.
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
        """SHA-256 of a file.

        Raises:
            UserError: it cannot be read.
        """
        if file not in self._known:
            try:
                self._known[file] = file_sha256(Path(file))
            except OSError as error:
                raise UserError(f'{file} cannot be read ({error.strerror})') from error
        return self._known[file]


def own_seed(config: Path, options: dict[str, object]) -> int:
    """Return the seed that a config names, 0 where it names none.

    Args:
        config: file; one that is wrong is refused later, without ending a sweep of others.
        options: overrides.
    """
    try:
        cfg = read_config(str(config))
        merge_options(cfg, options)
        return randomness(cfg, None, is_deterministic=False)['seed']
    except UserError:
        return DEFAULT_SEED


def make_run(wanted: Wanted, wishes: Wishes, digests: Digests) -> Run:
    """Look at one config, its data and where it starts.

    Raises:
        UserError: one of them is missing or wrong.
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
        task = Task(folder, config, identity, None, tuple(common), None, wanted.checkpoint)
        return Run(wanted.name, task)
    pretrained = pretrained_of(wishes.pretrained, wanted)
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
    epochs, iterations = cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')
    task = Task(folder, config, identity, tuple(training), tuple(common), final_checkpoint(cfg))
    return Run(wanted.name, task, iterations, epochs)


def check_start_of_sweep(cfg: Config, config: Path) -> None:
    """Check that a config leaves it to the sweep where a run is resumed.

    Raises:
        UserError: it names a checkpoint, from which every seed would go on.
    """
    if cfg.get('resume') and cfg.get('load_from'):
        raise UserError(
            f'{config} goes on from {cfg.load_from} (load_from with resume=True), and every run of a '
            'sweep starts anew; leave out resume'
        )


@functools.cache
def warn_of_work_dir(config: Path, own: str, folder: Path) -> None:
    """Say, once a config, that a sweep has folders of its own for its runs."""
    warn(f'{config}: its work_dir={own} is not used; the runs of a sweep are written to {folder}')


def flags_of(cfg: Config, flags: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options that change what is computed, those of the config among them."""
    is_deterministic = randomness(cfg, None, '--deterministic' in flags)['deterministic']
    others = tuple(flag for flag in flags if flag != '--deterministic')
    return ('--deterministic', *others) if is_deterministic else others


def common_arguments(
    folder: Path, digest: str, data_root: str | None, options: dict[str, object]
) -> list[str]:
    """Options that trainings and tests share; overrides last, since they take all that follows.

    Args:
        folder: of the run.
        digest: of the config, which may be edited before the job reads it.
        data_root: of the data; None for the config's own.
        options: overrides, by dotted keys.
    """
    arguments = ['--work-dir', str(folder), '--config-sha256', digest]
    arguments += ['--data-root', data_root] if data_root else []
    for key, value in options.items():
        arguments += ['--cfg-options', f'{key}={value!r}']
    return arguments


def data_root_of(cfg: Config, wish: str | None) -> str | None:
    """The data root of a config: `wish`, or the folder in it that is called as the config's own.

    In `/datasets`, of `data/ade/ADEChallengeData2016`, that is `ade/ADEChallengeData2016` or
    `ADEChallengeData2016`.
    """
    if wish is None:
        return None
    wish = os.path.expanduser(wish)
    parts = Path(config_data_root(cfg) or '').parts
    inside = [Path(wish, *parts[start:]) for start in range(1, len(parts))]
    return str(next((folder for folder in inside if folder.is_dir()), wish))


def pretrained_of(wish: str | None, wanted: Wanted) -> str | None:
    """The weights that a config starts from; `{mixer}`, `{scale}` and `{seed}` are those of the run.

    Raises:
        UserError: the config's name says neither mixer nor scale.
    """
    if wish is None or '{' not in wish:
        return wish
    leaf = LEAF.fullmatch(wanted.config.name)
    if leaf is None:
        raise UserError(
            f'--pretrained {wish}: the name of {wanted.config} is not of the form TASK_MIXER_SCALE.py'
        )
    names = {'mixer': leaf['mixer'], 'scale': leaf['scale'], 'seed': wanted.seed}
    try:
        return wish.format(**names)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f'--pretrained {wish}: give no other names in braces than {", ".join(names)}'
        ) from error


def start_of(cfg: Config, pretrained: str | None, digests: Digests) -> tuple[str, str | None]:
    """Name what a training starts from, with the digest of the files; None where there is no file.

    Args:
        cfg: of the training; changed as the training will change it.
        pretrained: what `--pretrained` names.
        digests: of files.

    Raises:
        UserError: a file is missing, or no released weights are known.
    """
    if pretrained:
        use_pretrained(cfg, pretrained)
    files = [source for source in starting_sources(cfg) if '://' not in source]
    found = [digests.of_file(file) for file in files]
    several = hashlib.sha256(' '.join(found).encode()).hexdigest() if len(found) > 1 else None
    return start_name(starting_weights(cfg)), several or next(iter(found), None)
