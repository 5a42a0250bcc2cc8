"""What `tools/train.py` does."""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint

from backbones.checkpoint import read_checkpoint
from evaluation.errors import UserError
from evaluation.experiment import (
    backbone_errors_reported,
    load_config,
    make_runner,
    set_pretrained,
)
from evaluation.published import load_published
from evaluation.result_hook import config_name, starting_weights


def train(arguments: argparse.Namespace) -> None:
    """Train as the command line of `tools/train.py` asks.

    Raises:
        UserError: something in the arguments, the config or the data is missing or wrong.
    """
    cfg = load_config(arguments, ('train_dataloader', 'val_dataloader'))
    cfg.randomness = dict(seed=arguments.seed, deterministic=arguments.deterministic)
    if arguments.pretrained:
        set_pretrained(cfg, find_pretrained(arguments.pretrained, cfg))
    if arguments.amp:
        use_mixed_precision(cfg)
    if arguments.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise UserError(f'{arguments.config} has no auto_scale_lr.base_batch_size to scale from')
        cfg.auto_scale_lr.enable = True
    if arguments.resume:
        set_resume(cfg, arguments.resume)
    elif cfg.load_from:
        check_checkpoint(cfg.load_from)
    runner = make_runner(cfg)
    print_log(f'training starts from {starting_weights(cfg)}', logger='current')
    with backbone_errors_reported():
        runner.train()


def find_pretrained(wish: str, cfg: Config) -> str:
    """Path or URL of the weights to start from; `released` is looked up by the config's backbone.

    Raises:
        UserError: no released weights are known for this backbone, or the file does not exist.
    """
    if wish != 'released':
        if '://' not in wish and not Path(wish).is_file():
            raise UserError(f'pretrained checkpoint {wish} is not a file')
        return wish
    if cfg.model.backbone.type == 'ResNet':
        return 'torchvision://resnet50'
    backbone = config_name(cfg.filename).removeprefix('mask_rcnn_').removeprefix('upernet_')
    for entry in load_published():
        if entry.model == backbone and entry.task == 'imagenet' and entry.checkpoint:
            return entry.checkpoint
    raise UserError(f'no released ImageNet weights are known for {backbone}; give a path or URL')


def use_mixed_precision(cfg: Config) -> None:
    """Train under autocast with dynamic loss scaling.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError('--amp needs a GPU; leave it out to train on the CPU')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.loss_scale = 'dynamic'


def set_resume(cfg: Config, checkpoint: str) -> None:
    """Go on from a checkpoint; `latest` is the work dir's last one, or a fresh start without one.

    Raises:
        UserError: the checkpoint does not exist, is damaged, or needs code to be run.
    """
    cfg.resume = True
    file = find_latest_checkpoint(cfg.work_dir) if checkpoint == 'latest' else checkpoint
    if file is None:
        return
    if not Path(file).is_file():
        raise UserError(f'checkpoint {file} to resume from is not a file')
    check_checkpoint(file)
    cfg.load_from = file


def check_checkpoint(source: str) -> None:
    """Read a checkpoint before mmengine does, which would fall back to running what it contains.

    Raises:
        UserError: it is damaged, or needs code to be run.
    """
    with backbone_errors_reported():
        read_checkpoint(source)
