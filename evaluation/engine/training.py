"""What `tools/train.py` does."""

import argparse

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from evaluation.config.run_settings import checkpoint_to_resume, randomness
from evaluation.engine.checkpoints import resumed_by_restart
from evaluation.engine.experiment import backbone_errors_reported, load_config, make_runner
from evaluation.engine.faults import machine_faults_reported, stop_explained
from evaluation.engine.starting_point import set_starting_point
from evaluation.models.starting_weights import starting_weights
from evaluation.utils.errors import UserError


def train(arguments: argparse.Namespace) -> None:
    """Train as the command line of `tools/train.py` asks.

    Raises:
        UserError: something in the arguments, the config or the data is missing or wrong.
    """
    cfg = load_config(arguments, ('train_dataloader', 'val_dataloader'))
    cfg.randomness = randomness(cfg, arguments.seed, arguments.deterministic)
    if arguments.amp:
        use_mixed_precision(cfg)
    if arguments.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise UserError(f'{arguments.config} has no auto_scale_lr.base_batch_size to scale from')
        cfg.auto_scale_lr.enable = True
    resume = resumed_by_restart(cfg.work_dir) or checkpoint_to_resume(cfg, arguments.resume)
    set_starting_point(cfg, arguments.pretrained, resume, arguments.config_sha256 is not None)
    with machine_faults_reported(cfg.work_dir):
        runner = make_runner(cfg)
        print_log(f'training starts from {starting_weights(cfg)}', logger='current')
    resumed_from = cfg.load_from if cfg.resume else None
    with stop_explained(cfg.work_dir, resumed_from), backbone_errors_reported():
        runner.train()


def use_mixed_precision(cfg: Config) -> None:
    """Train under autocast with dynamic loss scaling.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError('--amp needs a GPU; leave it out to train on the CPU')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.loss_scale = 'dynamic'
