"""Both tasks with a model and data so small that a whole training takes seconds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from evaluation.config.config_files import read_config
from evaluation.config.overrides import merge_options
from evaluation.scenes.scene_datasets import write_datasets
from evaluation.scenes.scenes import SceneStyle
from tests.commands import ROOT, Commands, Outcome, option_list

TASKS = ('mask_rcnn', 'upernet')
# An odd number of validation images, so that two processes get different numbers.
SCENES = {'train': 8, 'val': 7}

DIMS = [16, 32, 64, 128]
SIZE = (64, 64)
_BACKBONE = {
    'model.backbone.dims': DIMS,
    'model.backbone.depths': [1, 1, 1, 1],
    'model.backbone.mixer.num_heads': [1, 2, 4, 8],
    'val_dataloader.dataset.pipeline.1.scale': SIZE,
    'test_dataloader.dataset.pipeline.1.scale': SIZE,
    'train_dataloader.batch_size': 4,
    'default_hooks.logger.interval': 1,
}
# No score threshold: after four steps, hardly any score would pass it, and all metrics would be 0.
_MASK_RCNN = {
    **_BACKBONE,
    'model.neck.in_channels': DIMS,
    'model.test_cfg.rcnn.score_thr': 0.0,
    'model.test_cfg.rcnn.max_per_img': 30,
    'train_dataloader.dataset.pipeline.2.scale': SIZE,
    'train_cfg.val_interval': 1,
    'default_hooks.checkpoint.interval': 1,
}
_UPERNET = {
    **_BACKBONE,
    'model.decode_head.in_channels': DIMS,
    'model.auxiliary_head.in_channels': DIMS[2],
    'model.data_preprocessor.size': SIZE,
    'train_cfg.max_iters': 4,
    'train_cfg.val_interval': 2,
    'default_hooks.checkpoint.interval': 2,
}


@dataclass(frozen=True)
class Trial:
    """A training of four steps, evaluated after the second and the fourth.

    Attributes:
        task: `mask_rcnn` or `upernet`.
        config: leaf of the demonstration.
        data_root: generated scenes in the layout of COCO or ADE20K.
        options: overrides that make the training small.
        halfway: name of the second step in file names.
        end: name of the fourth step in file names.
    """

    task: str
    config: Path
    data_root: Path
    options: dict[str, object] = field(repr=False)
    halfway: str
    end: str

    def arguments(self, **more: object) -> list[object]:
        """Return command-line options; `more` are overrides, with `__` for a dot."""
        more = {key.replace('__', '.'): value for key, value in more.items()}
        return ['--data-root', self.data_root, *option_list({**self.options, **more})]


@pytest.fixture(scope='session')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('scenes')
    write_datasets(folder, SceneStyle(height=64, width=64), SCENES, seed=0)
    return folder


@pytest.fixture(scope='session')
def trials(scenes: Path) -> dict[str, Trial]:
    demo = ROOT / 'configs/demo'
    return {
        'mask_rcnn': Trial(
            'mask_rcnn',
            demo / 'mask_rcnn_swin_micro.py',
            scenes / 'coco',
            _MASK_RCNN,
            'epoch_1',
            'epoch_2',
        ),
        'upernet': Trial(
            'upernet',
            demo / 'upernet_dcn_micro.py',
            scenes / 'ADEChallengeData2016',
            _UPERNET,
            'iter_2',
            'iter_4',
        ),
    }


@pytest.fixture(params=TASKS)
def trial(request: pytest.FixtureRequest, trials: dict[str, Trial]) -> Trial:
    return trials[request.param]


@pytest.fixture(scope='session')
def work_dir_of(
    commands: Commands, trials: dict[str, Trial], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return the work dir of a task's training, which runs on the first request."""
    finished: dict[str, Path] = {}

    def train(task: str) -> Path:
        if task not in finished:
            folder = tmp_path_factory.mktemp(task)
            trial = trials[task]
            commands.succeed('train', trial.config, *trial.arguments(), folder=folder)
            finished[task] = folder / 'work_dirs' / trial.config.stem
        return finished[task]

    return train


@pytest.fixture(scope='session')
def weights(trials: dict[str, Trial]) -> Callable[[str], dict[str, Tensor]]:
    """Return the state dict of a task's model before training."""

    def build(task: str) -> dict[str, Tensor]:
        trial = trials[task]
        cfg = read_config(str(trial.config))
        merge_options(cfg, {name: _plain(value) for name, value in trial.options.items()})
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            torch.manual_seed(7)
            return MODELS.build(cfg.model).state_dict()

    return build


@pytest.fixture
def checkpoint(trial: Trial, weights: Callable[[str], dict[str, Tensor]], tmp_path: Path) -> Path:
    """A checkpoint of `trial`'s model before training."""
    file = tmp_path / 'weights.pth'
    torch.save({'state_dict': weights(trial.task)}, file)
    return file


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@pytest.fixture
def trained(trial: Trial, work_dir_of: Callable[[str], Path]) -> Path:
    """The work dir of the finished training of `trial`."""
    return work_dir_of(trial.task)


HALF_WRITTEN = ('.pth', '.pkl', '.json', '.jpg', '.png', '.safetensors', '.tmp')


@pytest.fixture
def train(commands: Commands, tmp_path: Path) -> Callable[..., Outcome]:
    """Run `tools/train.py` in an empty folder."""
    return lambda *arguments: commands('train', *arguments, folder=tmp_path)


@pytest.fixture
def test(commands: Commands, tmp_path: Path) -> Callable[..., Outcome]:
    """Run `tools/test.py` in an empty folder."""
    return lambda *arguments: commands('test', *arguments, folder=tmp_path)


@pytest.fixture
def nothing_written(tmp_path: Path) -> Callable[[], bool]:
    """Return whether a command left nothing in its folder that looks like a result."""
    return lambda: not [path for path in tmp_path.rglob('*') if path.suffix in HALF_WRITTEN]
