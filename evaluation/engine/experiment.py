"""Build the runner from a config and command-line options."""

import argparse
import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed
from mmengine.config import Config, ConfigDict

from backbones import BackboneError
from backbones.checkpoint import WEIGHT_KEYS
from evaluation.config.config_files import read_config as read_config
from evaluation.config.config_text import remember_layout
from evaluation.config.contestants import open_config
from evaluation.config.digests import add_digests
from evaluation.config.masks import leave_out_unused_masks
from evaluation.config.overrides import add_backbone, add_overrides
from evaluation.config.protocols import NO_PROTOCOL, ProtocolOptions
from evaluation.config.run_settings import check_run_settings, work_dir
from evaluation.config.schedule_length import length_warnings
from evaluation.config.whole_config import check_config
from evaluation.data.bad_images import leave_out_bad_images
from evaluation.data.data_root import set_data_root, unused_data_root
from evaluation.data.startup_checks import check_data
from evaluation.engine.hooks.compilation import add_compile_option, use_compiler
from evaluation.engine.hooks.time_shares import use_time_shares
from evaluation.engine.runner import BenchmarkRunner, init_method, set_model_wrapper
from evaluation.metrics.coco_evaluators import add_evaluator_option, use_evaluator
from evaluation.utils.errors import UserError, warn
from evaluation.utils.process_groups import note, process_count
from evaluation.utils.process_memory import keep_freed_memory
from evaluation.utils.slurm_tasks import meeting_of_slurm_tasks

# Start of PyTorch's error for a batch norm that gets a single value per channel.
TOO_FEW_VALUES = 'Expected more than 1 value per channel when training'


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share."""
    add_backbone(parser)
    parser.add_argument(
        '--work-dir', help="output folder; default: the config's work_dir, or work_dirs/<config name>"
    )
    add_data_arguments(parser)
    parser.add_argument('--tensorboard', action='store_true', help='write TensorBoard scalars too')
    add_compile_option(parser)
    add_evaluator_option(parser)
    parser.add_argument(
        '--config-sha256',
        metavar='DIGEST',
        help='refuse a config or a checkpoint to resume that has a different digest; set by sweeps',
    )
    parser.add_argument(
        '--time-shares',
        action='store_true',
        help='measure how much time data, each part of the model and the metric take; slightly slower',
    )
    add_overrides(parser)
    add_key_and_launcher(parser)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that uses the config's data sets."""
    parser.add_argument('--data-root', help='root of the data set; default: the one in the config')
    parser.add_argument(
        '--skip-bad-images',
        action='store_true',
        help='load every image at startup and skip those that are missing or damaged',
    )


def add_key_and_launcher(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that takes a checkpoint and runs on several processes."""
    parser.add_argument(
        '--checkpoint-key',
        choices=WEIGHT_KEYS,
        help='entry of the checkpoint with the weights; default: the first of these that it has',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher'
    )


def load_config(
    arguments: argparse.Namespace,
    loaders: tuple[str, ...],
    without_truth: Callable[[Config], None] | None = None,
    protocol: ProtocolOptions = NO_PROTOCOL,
) -> Config:
    """Read the config and apply the common options.

    Args:
        arguments: parsed arguments, with `config` and the options of `add_common_arguments`.
        loaders: names of the config's data loaders that will be used; their data are checked.
        without_truth: prepares the config for data sets without annotations; None if they are needed.
        protocol: protocol and fraction of the training.

    Raises:
        UserError: the config, an option or the data set is missing or wrong, or the work dir is not
            writable. Everything that needs no model is checked before anything is written.
    """
    cfg, warnings = open_config(arguments.config, arguments.backbone, arguments.cfg_options, protocol)
    # Compute the digests before setting anything that depends on the number of processes.
    add_digests(cfg)
    check_planned(arguments, cfg.config_sha256)
    cfg.launcher = arguments.launcher
    cfg.checkpoint_key = arguments.checkpoint_key
    set_backend(cfg)
    check_config(cfg, loaders, process_count())
    check_run_settings(cfg)
    use_evaluator(cfg, arguments.evaluator)
    warnings += length_warnings(cfg, arguments.cfg_options) if 'train_dataloader' in loaders else []
    for warning in warnings:
        warn(warning)
    cfg.work_dir = work_dir(cfg, arguments.work_dir, cfg.filename)
    check_work_dir(Path(cfg.work_dir))
    if without_truth:
        without_truth(cfg)
    use_data(cfg, loaders, arguments, needs_truth=without_truth is None)
    if arguments.tensorboard:
        write_tensorboard(cfg)
    if arguments.compile:
        use_compiler(cfg, arguments.compile)
    if arguments.time_shares:
        use_time_shares(cfg)
    return cfg


def check_planned(arguments: argparse.Namespace, digest: str) -> None:
    """Compare the digest of a config with `--config-sha256`, if that is given.

    Raises:
        UserError: they differ.
    """
    planned = arguments.config_sha256
    if planned not in (None, digest):
        raise UserError(
            f'{arguments.config} was changed since this run was planned (digest {planned[:8]} then, '
            f'{digest[:8]} now); revert the change, or plan again with a different --work-dir'
        )


def use_data(
    cfg: Config, loaders: tuple[str, ...], arguments: argparse.Namespace, needs_truth: bool = True
) -> None:
    """Check that the data of some loaders exist, and apply the data options.

    Args:
        cfg: the config.
        loaders: names of its data loaders that will be used; those that it lacks are ignored.
        arguments: parsed arguments, with the options of `add_data_arguments`.
        needs_truth: whether images must have annotations.

    Raises:
        UserError: data are missing or invalid.
    """
    if arguments.data_root:
        for warning in set_data_root(cfg, arguments.data_root, loaders):
            warn(warning)
    elif unused := unused_data_root(cfg, loaders):
        warn(f'data_root={unused} is not used by the data sets of the config; give --data-root {unused}')
    loaders = tuple(loader for loader in loaders if cfg.get(loader) is not None)
    if leave_out_unused_masks(cfg):
        note('the model predicts no masks, so none are loaded (with_mask=False)')
    check_data(cfg, loaders, arguments.skip_bad_images, needs_truth)
    if arguments.skip_bad_images:
        leave_out_bad_images(cfg, loaders)


def write_tensorboard(cfg: Config) -> None:
    """Write scalars for TensorBoard too.

    Raises:
        UserError: TensorBoard is not installed.
    """
    if importlib.util.find_spec('tensorboard') is None:
        raise UserError('--tensorboard needs the package tensorboard: pip install tensorboard')
    cfg.visualizer.vis_backends.append(ConfigDict(type='TensorboardVisBackend'))


def check_work_dir(folder: Path) -> None:
    """Check that a folder is writable or can be created, without creating it.

    Raises:
        UserError: the folder is not writable or cannot be created.
    """
    # Not `Path.exists`, which raises if a parent folder may not be entered.
    way = (folder.absolute(), *folder.absolute().parents)
    present = next(path for path in way if os.path.exists(path))
    if not present.is_dir():
        what = 'is a file' if present == folder.absolute() else f'cannot be created: {present} is a file'
        raise UserError(f'work dir {folder} {what}; choose another with --work-dir')
    if not os.access(present, os.W_OK | os.X_OK):
        what = '' if present == folder.absolute() else f' (no write access to {present})'
        raise UserError(f'work dir {folder} is not writable{what}; choose another with --work-dir')


def set_backend(cfg: Config) -> None:
    """Choose the backend of several processes: NCCL with SyncBN on GPUs, gloo without GPUs."""
    if cfg.launcher == 'none':
        return
    on_gpu = torch.cuda.is_available()
    set_model_wrapper(cfg, on_gpu)
    if on_gpu:
        cfg.sync_bn = 'torch'
    else:
        cfg.env_cfg.dist_cfg.backend = 'gloo'


@contextlib.contextmanager
def backbone_errors_reported() -> Iterator[None]:
    """Turn a `BackboneError`, or a batch norm's error about too few values, into a `UserError`."""
    try:
        yield
    except BackboneError as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        if not str(error).startswith(TOO_FEW_VALUES):
            raise
        raise UserError(
            f'a batch norm got one value per channel ({str(error).partition(", got ")[2]}); '
            'use a larger train_dataloader.batch_size or larger images'
        ) from error


def make_runner(cfg: Config) -> BenchmarkRunner:
    """Create the work dir and build the runner, which connects the processes if there are several.

    Raises:
        UserError: the work dir cannot be created, or the backbone's settings are invalid.
    """
    try:
        Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'work dir {cfg.work_dir} cannot be created: {error.strerror}') from error
    if cfg.launcher == 'slurm':
        os.environ.update(meeting_of_slurm_tasks(os.environ))
    if cfg.launcher == 'pytorch':
        cfg.env_cfg.dist_cfg.init_method = init_method()
    if not torch.cuda.is_available():
        keep_freed_memory()
        # mmengine's own initialization requires a GPU.
        if cfg.launcher in ('pytorch', 'slurm'):
            torch.distributed.init_process_group('gloo', cfg.env_cfg.dist_cfg.get('init_method'))
    remember_layout()
    with backbone_errors_reported():
        return BenchmarkRunner.from_cfg(cfg)
