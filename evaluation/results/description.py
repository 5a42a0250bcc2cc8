"""What a result says of a run: its config, model, cost, checkpoint and training."""

import logging
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from evaluation.config.digests import DIGEST_VERSION
from evaluation.config.recipe import variant_of
from evaluation.config.run_settings import effective_batch_size
from evaluation.data.bad_images import images_skipped
from evaluation.data.data_digest import data_sha256
from evaluation.models.complexity import complexity_of_config
from evaluation.models.starting_weights import starting_weights
from evaluation.utils.files import file_sha256


def describe_complexity(
    model: Mapping, scope: str | None, size: tuple[int, int] | None = None
) -> dict | None:
    """FLOPs and parameters by part; None, and a warning, where they cannot be counted.

    Args:
        model: config of the model.
        scope: whose registry names its parts.
        size: height and width of the image in pixels; None for that of the task.
    """
    try:
        return complexity_of_config(model, scope, size).as_json()
    except Exception as error:  # Whatever it is, the result of a long training must not be lost for it.
        reason = f'{type(error).__name__}: {error}'
        print_log(f'result without FLOPs: {reason}', logger='current', level=logging.WARNING)
        return None


def describe_training(runner: Runner) -> dict:
    """Length, seed, batch, precision, data and start of the training that `runner` is about to do."""
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
    }


def describe_config(cfg: Config) -> dict:
    """Its name, its digest without paths, the digest of earlier versions, and all of it."""
    return {
        'name': config_name(cfg.filename),
        'sha256': cfg.get('config_sha256'),
        'digest_version': DIGEST_VERSION if cfg.get('config_sha256') else None,
        'sha256_version_1': cfg.get('config_sha256_version_1'),
        'text': cfg.pretty_text,
    }


def describe_parameters(model: nn.Module) -> dict[str, int]:
    """How many the model has, and its backbone."""
    return {'total': count_parameters(model), 'backbone': count_parameters(model.backbone)}


def is_augmented(model: nn.Module) -> bool:
    """Whether a model merges its predictions for several views of an image."""
    return any(isinstance(part, BaseTTAModel) for part in model.modules())


def describe_checkpoint(file: Path | None, weights_digest: str | None) -> dict:
    """Digests of the evaluated weights, and of their file where there is one."""
    return {
        'file': file.name if file else None,
        'sha256': file_sha256(file) if file else None,
        'weights_sha256': weights_digest,
    }


def config_name(config_file: str) -> str:
    """`mask_rcnn_dcn_tiny` of `configs/mask_rcnn_dcn_tiny.py`."""
    return Path(config_file).stem


def count_parameters(module: nn.Module) -> int:
    """All parameters, frozen ones too."""
    return sum(parameter.numel() for parameter in module.parameters())
