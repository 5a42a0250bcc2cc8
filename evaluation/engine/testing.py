"""What `tools/test.py` does."""

import argparse
from functools import partial
from pathlib import Path

from mmengine.config import Config, ConfigDict

from backbones.checkpoint import local_copy, read_checkpoint
from evaluation.engine.experiment import backbone_errors_reported, load_config, make_runner
from evaluation.engine.faults import machine_faults_reported
from evaluation.engine.hooks.result import ResultHook
from evaluation.engine.starting_point import check_fits
from evaluation.engine.submission import leave_out_truth, write_submission
from evaluation.metrics.predictions import DumpPredictions
from evaluation.utils.errors import UserError


def test(arguments: argparse.Namespace) -> None:
    """Evaluate as the command line of `tools/test.py` asks.

    Raises:
        UserError: something in the arguments, the config, the data or the checkpoint is wrong.
    """
    folder = arguments.format_only
    prepare = partial(leave_out_truth, folder=folder) if folder else None
    cfg = load_config(arguments, ('test_dataloader',), prepare)
    # Of the training; a dumped config may have it.
    cfg.resume = False
    check_wishes(cfg, arguments)
    if folder:
        write_submission(cfg, folder)
    if arguments.show_dir:
        draw_predictions(cfg, arguments.show_dir)
    if arguments.out:
        dump_predictions(cfg, arguments.out)
    with machine_faults_reported(cfg.work_dir), backbone_errors_reported():
        content = read_checkpoint(arguments.checkpoint)
        check_fits(cfg, content, arguments.checkpoint, strict=True)
        if arguments.tta:
            use_test_time_augmentation(cfg)
        runner = make_runner(cfg)
        runner.to_test = (content, arguments.checkpoint)
        for hook in runner.hooks:
            if isinstance(hook, ResultHook):
                hook.checkpoint = local_copy(arguments.checkpoint)
        runner.test()


def check_wishes(cfg: Config, arguments: argparse.Namespace) -> None:
    """Check that the config has what an option needs.

    Raises:
        UserError: it has no views of an image to merge, or nothing that draws.
    """
    if arguments.tta and not ('tta_pipeline' in cfg and 'tta_model' in cfg):
        raise UserError(f'--tta: {cfg.filename} has no tta_pipeline and tta_model; leave --tta out')
    if arguments.show_dir and 'visualization' not in cfg.default_hooks:
        raise UserError(
            f'--show-dir: {cfg.filename} has no default_hooks.visualization; leave --show-dir out'
        )


def use_test_time_augmentation(cfg: Config) -> None:
    """Test several views of each image and merge the predictions."""
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def draw_predictions(cfg: Config, folder: str) -> None:
    """Draw every prediction beside the truth into `folder`."""
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
