"""Test a model on the domains of a shift suite, after the test set of its config."""

import copy
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner, TestLoop

from evaluation.config.masks import load_no_masks
from evaluation.config.recipe import required_recipe
from evaluation.data.bad_images import leave_out_bad_images
from evaluation.data.dataset_config import lister_of, plain_datasets
from evaluation.data.startup_checks import TESTED, check_data
from evaluation.metrics.coco_evaluators import METRIC
from evaluation.results.result import Domain
from evaluation.results.shift_suites import SUITES, ShiftSuite
from evaluation.utils.errors import UserError, did_you_mean


def find_suite(key: str) -> ShiftSuite:
    """Return the suite with a key.

    Raises:
        UserError: the suite is unknown.
    """
    if key not in SUITES:
        near = did_you_mean(key, SUITES)
        raise UserError(f'--shift: unknown suite {key!r}; choose from {", ".join(SUITES)}{near}')
    return SUITES[key]


def domain_configs(
    cfg: Config, suite: ShiftSuite, folder: Path, skip_bad_images: bool
) -> dict[Domain, Config]:
    """Return the config of each domain, with its data checked.

    Args:
        cfg: config of the run.
        suite: suite to test on.
        folder: folder that holds a folder for each domain.
        skip_bad_images: whether to skip images that are missing or damaged.

    Raises:
        UserError: the config has a different task or format, a domain is missing, or its data are wrong.
    """
    check_suite_fits(cfg, suite)
    if missing := [name for name in suite.domains if not (folder / name).is_dir()]:
        raise UserError(
            f'--shift {suite.key}: {folder} lacks the domain {", ".join(missing)}; give a folder with '
            f'{", ".join(suite.domains)}, each with {suite.annotations} and {suite.images}'
        )
    configs = {
        Domain(suite.key, name): domain_config(cfg, suite, folder / name) for name in suite.domains
    }
    for each in configs.values():
        check_data(each, (TESTED,), skip_bad_images)
        if skip_bad_images:
            leave_out_bad_images(each, (TESTED,))
    return configs


def check_suite_fits(cfg: Config, suite: ShiftSuite) -> None:
    """Check that a config has the task of a suite, one test set in COCO's format, and its metric.

    Raises:
        UserError: it does not.
    """
    task = required_recipe(cfg).task
    if task != suite.task:
        raise UserError(
            f'--shift {suite.key} is for {suite.task}, but {cfg.filename} is for {task}; give the '
            'config of a detector'
        )
    parts = [*plain_datasets(cfg.test_dataloader.dataset)]
    listers = {lister_of(part, cfg.default_scope) for part in parts}
    if len(parts) > 1 or listers != {'CocoDataset.load_data_list'}:
        raise UserError(
            f'--shift {suite.key} needs a single test data set in COCO format; {cfg.filename} has '
            f'{", ".join(part.type for part in parts)}'
        )
    if isinstance(cfg.test_evaluator, list) or cfg.test_evaluator.type != METRIC:
        raise UserError(
            f'--shift {suite.key} needs {METRIC} as the only test_evaluator; set it in {cfg.filename}'
        )


def domain_config(cfg: Config, suite: ShiftSuite, folder: Path) -> Config:
    """Return a config that tests on one domain, by boxes: its annotations have no masks.

    Args:
        cfg: config of the run.
        suite: suite of the domain.
        folder: folder of the domain.
    """
    own = copy.deepcopy(cfg)
    (dataset,) = plain_datasets(own.test_dataloader.dataset)
    if 'left_out' in dataset:
        # Names of skipped images of the config's own test set.
        del dataset['left_out']
        dataset.type = dataset.pop('dataset_type')
    dataset.data_root = str(folder)
    dataset.ann_file = suite.annotations
    dataset.data_prefix = {'img': suite.images}
    own.test_evaluator.ann_file = str(folder / suite.annotations)
    own.test_evaluator.metric = 'bbox'
    load_no_masks([own.test_dataloader, own.get('tta_pipeline')])
    return own


class DomainsLoop(TestLoop):
    """Test on the config's data and then on each domain, with the same weights.

    Hooks find the domain in `domain`, and its data loader in the runner's config.

    Args:
        runner: runner of the test.
        domains: config of each domain.
    """

    def __init__(self, runner: Runner, domains: Mapping[Domain, Config]) -> None:
        self._domains = domains
        self.domain: Domain | None = None
        self._use(runner, runner.cfg)

    def run(self) -> dict:
        """Run all tests; return the metrics of the config's data."""
        metrics = super().run()
        logged = self.runner.message_hub.log_scalars
        for domain, cfg in self._domains.items():
            self.domain = domain
            # Otherwise the log of a domain repeats figures that only the previous test has.
            for name in [name for name in logged if name.startswith('test/')]:
                del logged[name]
            self._use(self.runner, cfg)
            super().run()
        return metrics

    def _use(self, runner: Runner, cfg: Config) -> None:
        """Build the data loader and the evaluator of a config, in place of the previous ones."""
        runner.cfg.test_dataloader, runner.cfg.test_evaluator = cfg.test_dataloader, cfg.test_evaluator
        fp16 = (cfg.get('test_cfg') or {}).get('fp16', False)
        super().__init__(runner, cfg.test_dataloader, cfg.test_evaluator, fp16)
