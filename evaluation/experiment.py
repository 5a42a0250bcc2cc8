"""From a config and the command line's wishes to mmengine's runner, for both tasks alike."""

import argparse
import contextlib
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from backbones import BackboneError
from evaluation.errors import UserError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that training and testing share."""
    parser.add_argument('--work-dir', help='where to write; default work_dirs/<config name>')
    parser.add_argument('--data-root', help='root of the data set; default: the one in the config')
    parser.add_argument('--tensorboard', action='store_true', help='write TensorBoard scalars too')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='override settings of the config, such as train_dataloader.batch_size=4',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher'
    )


def load_config(arguments: argparse.Namespace, loaders: tuple[str, ...]) -> Config:
    """Read the config and apply the common options.

    Args:
        arguments: with `config` and what `add_common_arguments` adds.
        loaders: which of the config's data loaders will be used; their data are looked for.

    Raises:
        UserError: the config or the data set is missing, or the work dir cannot be written.
    """
    cfg = read_config(arguments.config)
    cfg.merge_from_dict(arguments.cfg_options)
    if arguments.data_root:
        set_data_root(cfg, arguments.data_root)
    for loader in loaders:
        check_data(cfg[loader].dataset)
    if arguments.tensorboard:
        cfg.visualizer.vis_backends.append(ConfigDict(type='TensorboardVisBackend'))
    cfg.work_dir = str(make_work_dir(arguments.work_dir or f'work_dirs/{Path(arguments.config).stem}'))
    cfg.launcher = arguments.launcher
    set_backend(cfg)
    return cfg


def read_config(file: str) -> Config:
    """Read a config.

    Raises:
        UserError: there is no such file; the message names the nearest.
    """
    path = Path(file)
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob('*.py')], 3)
        hint = f'; did you mean {" or ".join(str(path.parent / n) for n in near)}?' if near else ''
        raise UserError(f'config {file} is not a file{hint}')
    cfg = Config.fromfile(path)
    # mmengine does this itself only for configs that are not in the pure-Python style.
    import_modules_from_strings(**cfg.get('custom_imports', {'imports': []}))
    return cfg


def set_data_root(cfg: Config, root: str) -> None:
    """Replace the config's data root by `root`, in data sets and in the evaluators' files."""
    old = cfg.data_root
    cfg.data_root = root
    for name in (*LOADERS, 'val_evaluator', 'test_evaluator'):
        cfg[name] = _replace_prefix(cfg[name], old, root)


def _replace_prefix(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return type(value)({k: _replace_prefix(v, old, new) for k, v in value.items()})
    if isinstance(value, (list, tuple)):
        return type(value)(_replace_prefix(v, old, new) for v in value)
    if isinstance(value, str) and (value == old or value.startswith(f'{old}/')):
        return new + value[len(old) :]
    return value


def check_data(dataset: ConfigDict) -> None:
    """Look for what a data set's config names.

    Raises:
        UserError: a folder or file is missing; the message says which and what the layout is.
    """
    if 'data_root' not in dataset:
        return
    root = Path(dataset.data_root)
    wanted = [*dataset.get('data_prefix', {}).values(), dataset.get('ann_file')]
    layout = ', '.join(f'{root}/{name}' for name in wanted if name)
    if not root.is_dir():
        raise UserError(f'data root {root} is not a folder; give --data-root, with {layout}')
    for name in wanted:
        if name and not (root / name).exists():
            raise UserError(f'{root / name} is missing; the data root must have {layout}')


def make_work_dir(path: str) -> Path:
    """Create the work dir.

    Raises:
        UserError: it cannot be written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'work dir {folder} cannot be created: {error.strerror}') from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f'work dir {folder} is not writable; choose another with --work-dir')
    return folder


def set_backend(cfg: Config) -> None:
    """Let several processes talk: NCCL and SyncBN on GPUs, gloo without."""
    if cfg.launcher == 'none':
        return
    if torch.cuda.is_available():
        cfg.sync_bn = 'torch'
        return
    cfg.env_cfg.dist_cfg.backend = 'gloo'
    # Modules on the CPU must not name a device.
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
    )
    if cfg.launcher == 'pytorch' and not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')


def set_pretrained(cfg: Config, checkpoint: str) -> None:
    """Start the backbone from a checkpoint."""
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)


@contextlib.contextmanager
def backbone_errors_reported() -> Iterator[None]:
    """Turn a `BackboneError` into a `UserError`."""
    try:
        yield
    except BackboneError as error:
        raise UserError(str(error)) from error


def make_runner(cfg: Config) -> Runner:
    """Build the runner.

    Raises:
        UserError: the backbone's settings are wrong.
    """
    with backbone_errors_reported():
        return Runner.from_cfg(cfg)
