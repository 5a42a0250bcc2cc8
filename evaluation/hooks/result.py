"""Writes `result.json` after every evaluation, in training and in testing."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from evaluation.complexity import complexity_of_config
from evaluation.data.digest import data_sha256
from evaluation.data.skipping import images_skipped
from evaluation.evidence.files import FILE as EVIDENCE_FILE
from evaluation.evidence.files import Evidence, write_evidence
from evaluation.files import write_json
from evaluation.hooks.compilation import CompileHook
from evaluation.hooks.time_shares import time_shares
from evaluation.model_loading import unwrapped
from evaluation.provenance import file_sha256, git_state, hardware, now, versions, weights_sha256

SCHEMA_VERSION = 2


@HOOKS.register_module()
class ResultHook(Hook):
    """Leaves one `result.json` an evaluation, with all that is needed to trust and repeat it.

    In training it lies in `<work_dir>/<time>/epoch_<n>/` or `iter_<n>/`, in testing in
    `<work_dir>/<time>/`. What only the training knows travels in the checkpoint's `meta`.

    Args:
        task: `mask_rcnn`, `upernet` or `imagenet`.
        dataset: name of the evaluated data, as tables print it.
    """

    # After the checkpoint hook, whose file the result names.
    priority = 'LOWEST'

    def __init__(self, task: str, dataset: str) -> None:
        self.task = task
        self.dataset = dataset
        self.training: dict = {}
        self.complexity: dict | None = None
        self.checkpoint: Path | None = None
        self.weights_sha256: str | None = None
        self.data_sha256: str | None = None
        self.started = self.evaluation_started = time.monotonic()

    @master_only
    def before_run(self, runner: Runner) -> None:
        """Count what the model costs, on a copy without values."""
        model = runner.cfg.model
        # Around a model with test-time augmentation there is another.
        self.complexity = describe_complexity(
            model.get('module', model), runner.cfg.get('default_scope')
        )

    def before_train(self, runner: Runner) -> None:
        """Note what this training is; one that is resumed started where it did at first."""
        first_start = self.training.get('initialization') if runner.cfg.get('resume') else None
        self.training = describe_training(runner)
        self.training['initialization'] = first_start or self.training['initialization']

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store it with the weights."""
        checkpoint['meta']['training'] = self.training

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take from a checkpoint what a test run cannot know."""
        meta = checkpoint.get('meta', {})
        # A training by iterations stores epoch 0.
        progress = {'epoch': meta.get('epoch') or None, 'iteration': meta.get('iter')}
        self.training = {**meta.get('training', {}), **progress}

    def before_val_epoch(self, runner: Runner) -> None:
        """Start the clock, and note the weights: where these are averaged, others follow."""
        self._before_evaluation(runner, runner.cfg.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        """Likewise."""
        self._before_evaluation(runner, runner.cfg.test_dataloader)

    @master_only
    def _before_evaluation(self, runner: Runner, loader: ConfigDict) -> None:
        self.evaluation_started = time.monotonic()
        self.weights_sha256 = weights_sha256(unwrapped(runner.model))
        # Once: the file may be long.
        if self.data_sha256 is None:
            self.data_sha256 = data_sha256(loader.dataset)

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the result of an evaluation while training."""
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        step = f'epoch_{runner.epoch}' if by_epoch else f'iter_{runner.iter}'
        checkpoint = Path(runner.work_dir) / f'{step}.pth'
        progress = {'epoch': runner.epoch if by_epoch else None, 'iteration': runner.iter}
        self._write(
            runner,
            runner.val_evaluator,
            runner.cfg.val_dataloader,
            folder=Path(runner.log_dir) / step,
            checkpoint=checkpoint if checkpoint.is_file() else None,
            training={**self.training, **progress},
        )

    @master_only
    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the result of a test run."""
        self._write(
            runner,
            runner.test_evaluator,
            runner.cfg.test_dataloader,
            folder=Path(runner.log_dir),
            checkpoint=self.checkpoint,
            training=self.training,
        )

    def _write(
        self,
        runner: Runner,
        evaluator: Evaluator,
        loader: ConfigDict,
        folder: Path,
        checkpoint: Path | None,
        training: dict,
    ) -> None:
        reports = [r for r in (getattr(m, 'report', None) for m in evaluator.metrics) if r]
        if not reports:
            print_log('no metric of the suite was evaluated: no result.json', logger='current')
            return
        evidence = leave_evidence(folder, reports[0].evidence)
        model = unwrapped(runner.model)
        augmented = any(isinstance(part, BaseTTAModel) for part in runner.model.modules())
        write_json(
            folder / 'result.json',
            {
                'schema_version': SCHEMA_VERSION,
                'task': self.task,
                **describe_backbone(runner.cfg.filename, self.task, model.backbone),
                'dataset': self.dataset,
                'images': reports[0].images,
                'images_skipped': images_skipped(loader.dataset),
                'metrics': reports[0].metrics,
                'per_class': reports[0].per_class,
                'evidence': evidence,
                'config': {
                    'name': config_name(runner.cfg.filename),
                    'sha256': runner.cfg.get('config_sha256'),
                    'text': runner.cfg.pretty_text,
                },
                'data': {'sha256': self.data_sha256},
                'checkpoint': describe_checkpoint(checkpoint, self.weights_sha256),
                'epoch': training.get('epoch'),
                'iteration': training.get('iteration'),
                'max_epochs': training.get('max_epochs'),
                'max_iterations': training.get('max_iterations'),
                'initialization': training.get('initialization'),
                'batch_size': training.get('batch_size'),
                'mixed_precision': training.get('mixed_precision'),
                'learning_rate_scaled': training.get('learning_rate_scaled'),
                'training_data': {'sha256': training.get('data_sha256')},
                'training_images_skipped': training.get('images_skipped', 0),
                'seed': training.get('seed'),
                'test_time_augmentation': augmented,
                'compiled': any(isinstance(hook, CompileHook) for hook in runner.hooks),
                'parameters': {
                    'total': count_parameters(model),
                    'backbone': count_parameters(model.backbone),
                },
                'complexity': self.complexity,
                'versions': {**versions(), 'evaluator': reports[0].evaluator},
                'git': git_state(),
                'hardware': hardware(),
                'wall_time_seconds': round(time.monotonic() - self.started, 1),
                'evaluation_seconds': round(time.monotonic() - self.evaluation_started, 1),
                'time_shares': time_shares(runner),
                'created': now(),
            },
        )
        print_log(f'result written to {folder / "result.json"}', logger='current')


def leave_evidence(folder: Path, evidence: Evidence | None) -> dict | None:
    """Write evidence beside a result, and describe it; None where there is none."""
    if evidence is None:
        return None
    write_evidence(folder / EVIDENCE_FILE, evidence)
    return {'file': EVIDENCE_FILE, 'sha256': file_sha256(folder / EVIDENCE_FILE)}


def describe_complexity(model: Mapping, scope: str | None) -> dict | None:
    """FLOPs and parameters by part; None, and a warning, where they cannot be counted.

    Args:
        model: config of the model.
        scope: whose registry names its parts.
    """
    try:
        return complexity_of_config(model, scope).as_json()
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
        'seed': runner.seed,
        'initialization': starting_weights(runner.cfg),
        'batch_size': runner.world_size * runner.cfg.train_dataloader.batch_size,
        'mixed_precision': isinstance(runner.optim_wrapper, AmpOptimWrapper),
        'learning_rate_scaled': bool((runner.cfg.get('auto_scale_lr') or {}).get('enable')),
        'images_skipped': images_skipped(runner.cfg.train_dataloader.dataset)['count'],
        'data_sha256': data_sha256(runner.cfg.train_dataloader.dataset),
    }


def starting_weights(cfg: Config) -> str:
    """Checkpoint that a training starts from, of the whole model or of the backbone, or `scratch`."""
    whole_model = None if cfg.get('resume') else cfg.get('load_from')
    wishes = cfg.model.backbone.get('init_cfg') or {}
    # A list initialises layers one by one, from no checkpoint.
    checkpoint = wishes.get('checkpoint') if isinstance(wishes, dict) else None
    return whole_model or checkpoint or 'scratch'


def describe_backbone(config_file: str, task: str, backbone: nn.Module) -> dict:
    """Names for tables: from a config `<task>_<mixer>_<scale>`, else the config's own name."""
    name = config_name(config_file).removeprefix(f'{task}_')
    mixer = getattr(backbone, 'mixer_name', None)
    scale = name.removeprefix(f'{mixer}_')
    if mixer is None or scale == name:
        return {'backbone': name, 'mixer': None, 'scale': None}
    return {'backbone': name, 'mixer': mixer, 'scale': scale}


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
