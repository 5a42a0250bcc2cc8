"""Describe a run in its result: config, model, cost, checkpoint, training, code, versions, machine."""

import hashlib
import importlib.metadata
import logging
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from backbones import mmcv_ops
from evaluation.config.digests import DIGEST_VERSION
from evaluation.config.recipe import variant_of
from evaluation.config.run_settings import effective_batch_size
from evaluation.data.bad_images import images_skipped
from evaluation.data.dataset_config import data_sha256
from evaluation.data.fractions import fraction_digest
from evaluation.models.complexity import complexity_of_config
from evaluation.models.frozen import trainable_parameters
from evaluation.models.model_weights import starting_weights
from evaluation.utils.files import file_sha256
from evaluation.utils.formats import now as now


def describe_complexity(
    model: Mapping, scope: str | None, size: tuple[int, int] | None = None
) -> dict | None:
    """Return FLOPs and parameters by part; None, with a warning, if they cannot be counted.

    Args:
        model: config of the model.
        scope: scope of the registry for its parts.
        size: height and width of the image in pixels; None for the size of the task.
    """
    try:
        return complexity_of_config(model, scope, size).as_json()
    except Exception as error:  # No error here may cost the result of a long training.
        reason = f'{type(error).__name__}: {error}'
        print_log(f'FLOPs cannot be counted: {reason}', logger='current', level=logging.WARNING)
        return None


def describe_training(runner: Runner) -> dict:
    """Return length, seed, batch size, precision, data and start of a training that is about to run."""
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    return {
        'max_epochs': runner.max_epochs if by_epoch else None,
        'max_iterations': runner.max_iters,
        'variant': variant_of(runner.cfg.get('optim_wrapper') or {}),
        'seed': runner.seed,
        'initialization': starting_weights(runner.cfg),
        'batch_size': effective_batch_size(runner.cfg, runner.world_size),
        'mixed_precision': isinstance(runner.optim_wrapper, AmpOptimWrapper),
        'learning_rate_scaled': bool((runner.cfg.get('auto_scale_lr') or {}).get('enable')),
        'images_skipped': images_skipped(runner.cfg.train_dataloader.dataset)['count'],
        'data_sha256': data_sha256(runner.cfg.train_dataloader.dataset),
        'images_sha256': fraction_digest(runner.cfg.train_dataloader.dataset),
    }


def describe_config(cfg: Config) -> dict:
    """Return name, digests and text of a config."""
    return {
        'name': config_name(cfg.filename),
        'sha256': cfg.get('config_sha256'),
        'digest_version': DIGEST_VERSION if cfg.get('config_sha256') else None,
        'sha256_version_1': cfg.get('config_sha256_version_1'),
        'text': cfg.pretty_text,
    }


def describe_parameters(model: nn.Module) -> dict[str, int]:
    """Return the number of parameters of the model, of its backbone, and of those that train."""
    return {
        'total': count_parameters(model),
        'backbone': count_parameters(model.backbone),
        'trainable': trainable_parameters(model),
    }


def is_augmented(model: nn.Module) -> bool:
    """Return whether a model merges its predictions for several views of an image."""
    return any(isinstance(part, BaseTTAModel) for part in model.modules())


def describe_checkpoint(file: Path | None, weights_digest: str | None) -> dict:
    """Return digests of the evaluated weights and, if any, of their file."""
    return {
        'file': file.name if file else None,
        'sha256': file_sha256(file) if file else None,
        'weights_sha256': weights_digest,
    }


def config_name(config_file: str) -> str:
    """Return `mask_rcnn_dcn_tiny` for `configs/mask_rcnn_dcn_tiny.py`."""
    return Path(config_file).stem


def count_parameters(module: nn.Module) -> int:
    """Count all parameters, including frozen ones."""
    return sum(parameter.numel() for parameter in module.parameters())


REPOSITORY = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = (
    'torch',
    'torchvision',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmdetection',
    'onedl-mmsegmentation',
    'timm',
    'numpy',
    'pycocotools',
    'faster-coco-eval',
)


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the libraries that figures depend on."""
    found: dict[str, str | None] = {'python': platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    found['mmcv operators'] = 'torchvision' if mmcv_ops.using_stand_in() else 'compiled'
    return found


def git_state() -> dict[str, str | bool | None]:
    """Return the commit of the suite and whether tracked files have changed; None outside a checkout."""
    revision = _git('rev-parse', 'HEAD')
    changed = _git('status', '--porcelain', '--untracked-files=no')
    return {'revision': revision, 'dirty': None if changed is None else bool(changed)}


def hardware() -> dict:
    """Return the processors and GPUs of this machine, and the number of processes."""
    return {
        'host_cpu': platform.processor() or platform.machine(),
        'cpu_count': os.cpu_count(),
        'gpus': [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        'world_size': int(os.environ.get('WORLD_SIZE', 1)),
    }


def weights_sha256(model: nn.Module) -> str:
    """Return the SHA-256 of a model's state; it does not depend on the file that stores it."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b'')
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    command = ['git', '-C', str(REPOSITORY), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
