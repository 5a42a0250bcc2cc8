"""Training and testing, as run by `tools/train.py` and `tools/test.py`."""

import argparse
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import nn

from backbones.checkpoint import local_copy, read_checkpoint
from evaluation.config.run_settings import (
    checkpoint_to_resume,
    randomness,
    warn_of_different_backbone,
)
from evaluation.data.fractions import use_fraction
from evaluation.engine.checkpoints import resumed_by_restart
from evaluation.engine.experiment import backbone_errors_reported, load_config, make_runner
from evaluation.engine.faults import machine_faults_reported, stop_explained
from evaluation.engine.hooks.result_hook import ResultHook
from evaluation.engine.protocol_options import check_stated, options_of, stated_by_checkpoint
from evaluation.engine.shifted_test import DomainsLoop, domain_configs, find_suite
from evaluation.engine.starting_point import check_fits, set_starting_point
from evaluation.engine.submission import leave_out_truth, write_submission
from evaluation.metrics.predictions import DumpPredictions
from evaluation.models.frozen import trainable_of_config, trainable_parameters
from evaluation.models.model_weights import starting_weights, unwrapped
from evaluation.results.description import count_parameters
from evaluation.tasks import PROTOCOLS
from evaluation.utils.errors import UserError
from evaluation.utils.files import user_path


def train(arguments: argparse.Namespace) -> None:
    """Run `tools/train.py`.

    Raises:
        UserError: something in the arguments, the config or the data is missing or wrong.
    """
    options = options_of(arguments)
    cfg = load_config(arguments, ('train_dataloader', 'val_dataloader'), protocol=options)
    check_protocol(cfg)
    images = use_fraction(cfg, options.list_file)
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
        describe_trained(unwrapped(runner.model), cfg)
        if images and is_main_process():
            images.write(Path(cfg.work_dir))
    resumed_from = cfg.load_from if cfg.resume else None
    with stop_explained(cfg.work_dir, resumed_from), backbone_errors_reported():
        runner.train()


def check_protocol(cfg: Config) -> None:
    """Check that the model has what the protocol freezes and trains, before anything is written.

    Raises:
        UserError: it has not.
    """
    if protocol := (cfg.get('recipe') or {}).get('protocol'):
        trainable_of_config(cfg.model, cfg.default_scope, protocol)


def describe_trained(model: nn.Module, cfg: Config) -> None:
    """Log the protocol and the number of parameters that train."""
    protocol = (cfg.get('recipe') or {}).get('protocol')
    print_log(
        f'{trainable_parameters(model):,} of {count_parameters(model):,} parameters train'
        + (f' ({PROTOCOLS[protocol]})' if protocol else ''),
        logger='current',
    )


def use_mixed_precision(cfg: Config) -> None:
    """Train under autocast with dynamic loss scaling.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError('--amp needs a GPU; omit it to train on the CPU')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.loss_scale = 'dynamic'


def test(arguments: argparse.Namespace) -> Path:
    """Run `tools/test.py`; return the folder of the log and the results.

    Raises:
        UserError: something in the arguments, the config, the data or the checkpoint is wrong.
    """
    folder = arguments.format_only
    prepare = partial(leave_out_truth, folder=folder) if folder else None
    stated = stated_by_checkpoint(arguments.checkpoint)
    cfg = load_config(arguments, ('test_dataloader',), prepare, stated)
    # A dumped config may still have the setting of its training.
    cfg.resume = False
    check_wishes(cfg, arguments)
    domains = {}
    if arguments.shift:
        key, place = arguments.shift
        domains = domain_configs(cfg, find_suite(key), user_path(place), arguments.skip_bad_images)
    if folder:
        write_submission(cfg, folder)
    if arguments.show_dir:
        draw_predictions(cfg, arguments.show_dir)
    if arguments.out:
        dump_predictions(cfg, arguments.out)
    with machine_faults_reported(cfg.work_dir), backbone_errors_reported():
        content = read_checkpoint(arguments.checkpoint)
        check_fits(cfg, content, arguments.checkpoint, strict=True)
        check_stated(cfg, content, arguments.checkpoint)
        warn_of_different_backbone(cfg, content, arguments.checkpoint)
        if arguments.tta:
            for each in (cfg, *domains.values()):
                use_test_time_augmentation(each)
        runner = make_runner(cfg)
        if domains:
            runner.test_loop_of = partial(DomainsLoop, domains=domains)
        runner.to_test = (content, arguments.checkpoint)
        for hook in runner.hooks:
            if isinstance(hook, ResultHook):
                hook.checkpoint = local_copy(arguments.checkpoint)
        runner.test()
    return Path(runner.log_dir)


def check_wishes(cfg: Config, arguments: argparse.Namespace) -> None:
    """Check that the config has the settings that options need, and that options do not conflict.

    Raises:
        UserError: the config has no test-time augmentation, or no visualization hook, or an option
            applies to a single data set.
    """
    for option in ('out', 'format_only', 'show_dir'):
        if arguments.shift and getattr(arguments, option):
            raise UserError(
                f'--{option.replace("_", "-")} applies to a single data set; omit it, or omit --shift'
            )
    if arguments.tta and not ('tta_pipeline' in cfg and 'tta_model' in cfg):
        raise UserError(f'--tta: {cfg.filename} has no tta_pipeline and tta_model; omit --tta')
    if arguments.show_dir and 'visualization' not in cfg.default_hooks:
        raise UserError(
            f'--show-dir: {cfg.filename} has no default_hooks.visualization; omit --show-dir'
        )


def use_test_time_augmentation(cfg: Config) -> None:
    """Predict on several views of each image and merge the predictions."""
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def draw_predictions(cfg: Config, folder: str) -> None:
    """Draw every prediction next to the truth, into `folder`."""
    cfg.default_hooks.visualization.update(draw=True, interval=1)
    if cfg.default_scope == 'mmdet':
        cfg.default_hooks.visualization.test_out_dir = str(Path(folder).resolve())
    else:
        cfg.visualizer.save_dir = folder


def dump_predictions(cfg: Config, file: str) -> None:
    """Write the predictions of all images to `file`.

    Raises:
        UserError: the name does not end in .pkl, or its folder does not exist.
    """
    if not file.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {file}: the name must end in .pkl')
    if not Path(file).resolve().parent.is_dir():
        raise UserError(f'--out {file}: its folder does not exist')
    dump = dict(type=DumpPredictions.__name__, out_file_path=file)
    cfg.test_evaluator = [cfg.test_evaluator, dump]
