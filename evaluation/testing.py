"""What `tools/test.py` does."""

import argparse
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from backbones.checkpoint import read_checkpoint, weights_of
from evaluation.errors import UserError
from evaluation.experiment import backbone_errors_reported, load_config, make_runner
from evaluation.result_hook import ResultHook


def test(arguments: argparse.Namespace) -> None:
    """Evaluate as the command line of `tools/test.py` asks.

    Raises:
        UserError: something in the arguments, the config, the data or the checkpoint is wrong.
    """
    cfg = load_config(arguments, ('test_dataloader',))
    if arguments.tta:
        use_test_time_augmentation(cfg)
    if arguments.show_dir:
        draw_predictions(cfg, arguments.show_dir)
    if arguments.out:
        dump_predictions(cfg, arguments.out)
    with backbone_errors_reported():
        checkpoint = read_checkpoint(arguments.checkpoint)
    runner = make_runner(cfg)
    load_whole(runner, checkpoint, arguments.checkpoint)
    runner.test()


def load_whole(runner: Runner, checkpoint: dict, source: str) -> None:
    """Load every weight of the model and tell the hooks.

    Raises:
        UserError: the checkpoint has no weights, lacks one of the model's, or has one left over.
    """
    with backbone_errors_reported():
        weights = weights_of(checkpoint, source)
    model = tested_model(runner)
    advice = f'give the config that {source} was trained with'
    try:
        left = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        mismatch = str(error).strip().splitlines()[-1].strip()
        raise UserError(f'{source} does not fit {runner.cfg.filename}: {mismatch}; {advice}') from error
    wrong = [
        f'{len(names)} weights are {word}, such as {names[0]}'
        for word, names in (('missing', left.missing_keys), ('left over', left.unexpected_keys))
        if names
    ]
    if wrong:
        raise UserError(f'{source} does not fit {runner.cfg.filename}: {", ".join(wrong)}; {advice}')
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)
    for hook in runner.hooks:
        if isinstance(hook, ResultHook):
            hook.checkpoint = Path(source)


def tested_model(runner: Runner) -> nn.Module:
    """The detector or segmentor inside wrappers for several processes and for augmentation."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.module if isinstance(model, BaseTTAModel) else model


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
    cfg.test_evaluator = [cfg.test_evaluator, dict(type='DumpResults', out_file_path=file)]
