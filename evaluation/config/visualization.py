"""Checks that the packages of a config's visualization backends are installed."""

import importlib.util
import inspect

from mmengine.config import Config
from mmengine.registry import VISBACKENDS

from evaluation.config.types import setting
from evaluation.utils.errors import UserError

# Packages that mmengine imports when a run starts.
PACKAGES = {
    'WandbVisBackend': 'wandb',
    'MLflowVisBackend': 'mlflow',
    'ClearMLVisBackend': 'clearml',
    'NeptuneVisBackend': 'neptune',
    'DVCLiveVisBackend': 'dvclive',
    'AimVisBackend': 'aim',
    'TensorboardVisBackend': 'tensorboard',
}


def check_visualization(cfg: Config) -> None:
    """Look for the package of every visualization backend.

    Raises:
        UserError: one is not installed.
    """
    backends = setting(cfg, 'visualizer.vis_backends') or ()
    for index, settings in enumerate(backends):
        wanted = settings.get('type') if isinstance(settings, dict) else None
        built = VISBACKENDS.get(wanted) if isinstance(wanted, str) else wanted
        # Also of a class that derives from one of these.
        names = [base.__name__ for base in inspect.getmro(built)] if inspect.isclass(built) else []
        for package in (PACKAGES[name] for name in names if name in PACKAGES):
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f'visualizer.vis_backends.{index} ({built.__name__}) needs the package {package}: '
                    f'pip install {package}, or leave this entry out'
                )
