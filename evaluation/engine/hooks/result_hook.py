"""Write `result.json` after every evaluation, in training and in testing."""

import time
from dataclasses import asdict
from pathlib import Path

from mmengine.config import ConfigDict
from mmengine.dist import master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from evaluation.config.recipe import contestant_of, required_recipe
from evaluation.config.run_settings import checkpoint_of_step
from evaluation.data.bad_images import images_skipped
from evaluation.data.dataset_config import data_sha256
from evaluation.engine.hooks.compilation import CompileHook
from evaluation.engine.hooks.time_shares import time_shares
from evaluation.metrics.calibration import calibration_errors
from evaluation.metrics.record_files import FILE as EVIDENCE_FILE
from evaluation.metrics.record_files import write_evidence
from evaluation.metrics.records import Evidence, MetricReport
from evaluation.models.model_weights import unwrapped
from evaluation.results.description import (
    describe_checkpoint,
    describe_complexity,
    describe_config,
    describe_parameters,
    describe_training,
    git_state,
    hardware,
    is_augmented,
    now,
    versions,
    weights_sha256,
)
from evaluation.results.result import Domain
from evaluation.results.shift_suites import dataset_of, domain_folder
from evaluation.tasks import Recipe
from evaluation.utils.files import file_sha256, write_json

SCHEMA_VERSION = 3
# Entries of a result that come from the training, stored in its checkpoints.
OF_THE_TRAINING = (
    'epoch',
    'iteration',
    'max_epochs',
    'max_iterations',
    'initialization',
    'batch_size',
    'mixed_precision',
    'learning_rate_scaled',
    'seed',
)


@HOOKS.register_module()
class ResultHook(Hook):
    """Writes a `result.json` for each evaluation, with everything needed to verify and repeat it.

    The file is in `<work_dir>/<time>/epoch_<n>/` or `iter_<n>/` during training, and in
    `<work_dir>/<time>/` after a test. Facts that only the training knows are in the checkpoint's `meta`.

    Args:
        task: key of the task in a config without a `recipe`, where `evaluation.config.recipe` reads it.
        dataset: name of the evaluated data in tables; None for the data set of the recipe.

    Raises:
        UserError: at the start of a run, if the config declares no recipe.
    """

    # After the checkpoint hook, whose file the result names.
    priority = 'LOWEST'

    def __init__(self, task: str | None = None, dataset: str | None = None) -> None:
        del task
        self.dataset = dataset
        self.recipe: Recipe | None = None
        self.training: dict = {}
        self.complexity: dict | None = None
        self.checkpoint: Path | None = None
        self.weights_sha256: str | None = None
        self.data_sha256: str | None = None
        self.started = self.evaluation_started = time.monotonic()

    @master_only
    def before_run(self, runner: Runner) -> None:
        """Find the recipe, and count parameters and FLOPs on a copy of the model without values."""
        self.recipe = required_recipe(runner.cfg)
        model = runner.cfg.model
        # Test-time augmentation wraps the model.
        self.complexity = describe_complexity(
            model.get('module', model), runner.cfg.get('default_scope'), self.recipe.flops_size
        )

    def before_train(self, runner: Runner) -> None:
        """Describe this training; a resumed one keeps its original initialization."""
        first_start = self.training.get('initialization') if runner.cfg.get('resume') else None
        self.training = describe_training(runner)
        self.training['initialization'] = first_start or self.training['initialization']

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the description with the weights."""
        checkpoint['meta']['training'] = self.training

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Read the description of the training from a checkpoint."""
        meta = checkpoint.get('meta', {})
        # Iteration-based trainings store epoch 0.
        progress = {'epoch': meta.get('epoch') or None, 'iteration': meta.get('iter')}
        self.training = {**meta.get('training', {}), **progress}

    def before_val_epoch(self, runner: Runner) -> None:
        """Start the clock, and hash the weights now: the EMA hook swaps them back later."""
        self._before_evaluation(runner, runner.cfg.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        """Start the clock, and hash the weights."""
        self._before_evaluation(runner, runner.cfg.test_dataloader, domain_of(runner))

    @master_only
    def _before_evaluation(
        self, runner: Runner, loader: ConfigDict, domain: Domain | None = None
    ) -> None:
        self.evaluation_started = time.monotonic()
        self.weights_sha256 = weights_sha256(unwrapped(runner.model))
        # Only once for each data set: the file may be large.
        if self.data_sha256 is None or domain:
            self.data_sha256 = data_sha256(loader.dataset)

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the result of an evaluation during training."""
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        step = f'epoch_{runner.epoch}' if by_epoch else f'iter_{runner.iter}'
        checkpoint = Path(runner.work_dir) / checkpoint_of_step(runner, by_epoch)
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
        """Write the result of a test run; those of domains go to folders below it."""
        domain = domain_of(runner)
        self._write(
            runner,
            runner.test_evaluator,
            runner.cfg.test_dataloader,
            folder=domain_folder(Path(runner.log_dir), domain) if domain else Path(runner.log_dir),
            checkpoint=self.checkpoint,
            training=self.training,
            domain=domain,
        )

    def _write(
        self,
        runner: Runner,
        evaluator: Evaluator,
        loader: ConfigDict,
        folder: Path,
        checkpoint: Path | None,
        training: dict,
        domain: Domain | None = None,
    ) -> None:
        reports = [r for r in (getattr(m, 'report', None) for m in evaluator.metrics) if r]
        if not reports:
            print_log('no metric of the suite was evaluated; no result.json written', logger='current')
            return
        report, model = reports[0], unwrapped(runner.model)
        content = {
            'schema_version': SCHEMA_VERSION,
            'task': self.recipe.task,
            # Checkpoints of older versions store the variant as `recipe`.
            'recipe': {
                **self.recipe.as_json(),
                'variant': training.get('variant', training.get('recipe')),
            },
            'contestant': asdict(contestant_of(runner.cfg, model.backbone)),
            'dataset': dataset_of(domain) if domain else self.dataset or self.recipe.dataset,
            'domain': asdict(domain) if domain else None,
            'images_skipped': images_skipped(loader.dataset),
            **leave_figures(folder, report),
            'config': describe_config(runner.cfg),
            'data': {'sha256': self.data_sha256},
            'checkpoint': describe_checkpoint(checkpoint, self.weights_sha256),
            **{name: training.get(name) for name in OF_THE_TRAINING},
            'training_data': {
                'sha256': training.get('data_sha256'),
                'images_sha256': training.get('images_sha256'),
            },
            'training_images_skipped': training.get('images_skipped', 0),
            'test_time_augmentation': is_augmented(runner.model),
            'compiled': any(isinstance(hook, CompileHook) for hook in runner.hooks),
            'parameters': describe_parameters(model),
            'complexity': self.complexity,
            'versions': {**versions(), 'evaluator': report.evaluator},
            'git': git_state(),
            'hardware': hardware(),
            'wall_time_seconds': round(time.monotonic() - self.started, 1),
            'evaluation_seconds': round(time.monotonic() - self.evaluation_started, 1),
            'time_shares': time_shares(runner),
            'created': now(),
        }
        write_json(folder / 'result.json', content)
        print_log(f'result written to {folder / "result.json"}', logger='current')


def domain_of(runner: Runner) -> Domain | None:
    """Return the domain of a test; None in distribution."""
    return getattr(runner.test_loop, 'domain', None)


def leave_figures(folder: Path, report: MetricReport) -> dict:
    """Return the figures of a metric, and write its evidence next to the result."""
    return {
        'images': report.images,
        'metrics': report.metrics,
        'per_class': report.per_class,
        'calibration': calibration_of(report.evidence),
        'evidence': leave_evidence(folder, report.evidence),
    }


def calibration_of(evidence: Evidence | None) -> dict[str, float | None] | None:
    """Return calibration errors in percent; None if the records have no confidences."""
    parts = evidence.calibration() if evidence else {}
    return calibration_errors(parts, len(evidence.images)) if parts else None


def leave_evidence(folder: Path, evidence: Evidence | None) -> dict | None:
    """Write evidence next to a result and return its description; None without evidence."""
    if evidence is None:
        return None
    write_evidence(folder / EVIDENCE_FILE, evidence)
    return {'file': EVIDENCE_FILE, 'sha256': file_sha256(folder / EVIDENCE_FILE)}
