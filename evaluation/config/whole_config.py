"""Check a whole config before anything is built from it or written."""

import importlib.util
import inspect
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, VISBACKENDS
from torch import nn

from backbones import BackboneError
from backbones.layer_decay import layer_factors
from backbones.maps import SMALLEST_SIDE
from evaluation.config.model_channels import check_channels
from evaluation.config.recipe import check_competition
from evaluation.config.run_settings import check_checkpoint_names
from evaluation.config.schedule import check_schedule
from evaluation.config.segmentor_checks import check_segmentation
from evaluation.config.settings import built_settings, check_keywords, check_types, setting
from evaluation.utils.errors import UserError
from evaluation.utils.meta_device import build_without_values

# Minimum values of whole numbers.
LEAST = {
    'train_dataloader.batch_size': 1,
    'val_dataloader.batch_size': 1,
    'test_dataloader.batch_size': 1,
    'train_dataloader.num_workers': 0,
    'val_dataloader.num_workers': 0,
    'test_dataloader.num_workers': 0,
    'optim_wrapper.accumulative_counts': 1,
    'train_cfg.max_epochs': 1,
    'train_cfg.max_iters': 1,
    'train_cfg.val_interval': 1,
}
LEAF = 'configs/mask_rcnn_dcn_tiny.py'
BATCH_NORMS = ('BN', 'BN1d', 'BN2d', 'SyncBN')
# Places whose `pretrained` loads weights unchecked, or has no effect.
PRETRAINED = ('model', 'model.backbone')
# Former settings that are silently ignored: the current setting, and how to write it.
OLD_SETTINGS = {
    'seed': ('randomness.seed', 'randomness=dict(seed={!r}), or --seed'),
    'deterministic': ('randomness.deterministic', 'randomness=dict(deterministic={!r})'),
    'resume_from': ('load_from', 'load_from={!r} with resume=True, or --resume'),
    'auto_resume': ('resume', 'resume={!r}, or --resume'),
}
# Packages that mmengine imports when a run starts.
PACKAGES_OF_BACKENDS = {
    'WandbVisBackend': 'wandb',
    'MLflowVisBackend': 'mlflow',
    'ClearMLVisBackend': 'clearml',
    'NeptuneVisBackend': 'neptune',
    'DVCLiveVisBackend': 'dvclive',
    'AimVisBackend': 'aim',
    'TensorboardVisBackend': 'tensorboard',
}


def check_config(cfg: Config, loaders: Sequence[str], processes: int) -> None:
    """Check everything that can be checked without data.

    Args:
        cfg: config with the overrides of the command line.
        loaders: names of the data loaders that will be used.
        processes: number of processes.

    Raises:
        UserError: a setting is missing, misspelled or inconsistent; the message says what to give.
    """
    check_parts(cfg, loaders)
    check_old_names(cfg, is_training='train_dataloader' in loaders)
    check_types(cfg)
    check_keywords(cfg)
    check_whole_numbers(cfg)
    check_competition(cfg)
    if cfg.default_scope == 'mmseg':
        check_segmentation(cfg)
    check_visualization(cfg)
    for loader in loaders:
        if cfg.get(loader) is not None:
            check_workers(cfg, loader)
    check_channels(cfg)
    if cfg.model.backbone.type in ('UnifiedBackbone', 'UnifiedClassifier'):
        check_image_sizes(cfg)
    if 'train_dataloader' in loaders:
        check_layer_decay(cfg)
        check_batch_norm(cfg, processes)
        check_mixing(cfg)
        check_precision(cfg)
        check_schedule(cfg, processes)
        check_checkpoint_names(cfg)


def check_parts(cfg: Config, loaders: Sequence[str]) -> None:
    """Check that a config is complete, and not a page that other configs import from.

    Raises:
        UserError: a part is missing.
    """
    parts = ['default_scope', 'model', 'model.backbone']
    parts += [part for part in loaders if part != 'val_dataloader']
    parts += ['train_cfg', 'optim_wrapper'] if 'train_dataloader' in loaders else []
    for part in parts:
        if setting(cfg, part) is None:
            more = ', or --backbone NAME' if part == 'model.backbone' else ''
            raise UserError(f'config {cfg.filename} has no {part}; give a leaf, such as {LEAF}{more}')
    of_validation = ('val_dataloader', 'val_cfg', 'val_evaluator')
    absent = [part for part in of_validation if cfg.get(part) is None]
    if 0 < len(absent) < len(of_validation):
        raise UserError(
            f'{absent[0]} is None; to turn off validation, give None for all of '
            f'{", ".join(of_validation)}'
        )


def check_whole_numbers(cfg: Config) -> None:
    """Check numbers of images, workers, epochs and iterations.

    Raises:
        UserError: a number is not whole, or is too small.
    """
    for key, least in LEAST.items():
        value = setting(cfg, key, default=least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f'{key}={value!r}: give a whole number, {least} or more')


def check_workers(cfg: Config, loader: str) -> None:
    """Check options of a data loader that need workers.

    Raises:
        UserError: such an option is given without workers.
    """
    settings = cfg[loader]
    for name, without in (('persistent_workers', False), ('prefetch_factor', None)):
        if not settings.get('num_workers') and settings.get(name):
            raise UserError(
                f'{loader}.{name}={settings[name]} needs workers, but {loader}.num_workers=0; '
                f'give {loader}.{name}={without} too'
            )


def check_image_sizes(cfg: Config) -> None:
    """Check that training images are not smaller than the backbone allows.

    Raises:
        UserError: they are cropped or padded to a smaller size.
    """
    sizes = {
        f'{settings.place}.{name}': settings.content.get(name)
        for settings in built_settings(cfg)
        for name in ('size', 'crop_size', 'input_size')
        if settings.place == 'model.data_preprocessor' or name != 'size'
    }
    for place, size in sizes.items():
        sides = [size] if isinstance(size, int) else size or ()
        # Fractions are relative to the image size, which is unknown here.
        if any(isinstance(side, int) and side < SMALLEST_SIDE for side in sides):
            raise UserError(
                f'{place}={size}: the backbone needs at least {SMALLEST_SIDE} pixels in each direction'
            )


def check_layer_decay(cfg: Config) -> None:
    """Check that the backbone tells its layers if their learning rates differ.

    Raises:
        UserError: it does not, or the rate is invalid.
    """
    rate = (cfg.optim_wrapper.get('paramwise_cfg') or {}).get('layer_decay_rate')
    if rate is None:
        return
    if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
        raise UserError(f'layer_decay_rate={rate!r}: choose a number above 0 and at most 1')
    holder = nn.Module()
    holder.backbone = build_without_values(cfg.model.backbone, cfg.default_scope, 'model.backbone')
    try:
        layer_factors(holder, rate)
    except BackboneError as error:
        raise UserError(str(error)) from error


def check_batch_norm(cfg: Config, processes: int) -> None:
    """Check that batch norm over one-pixel maps gets more than one image.

    Raises:
        UserError: it gets only one, so training would fail at the first step.
    """
    batch = cfg.train_dataloader.batch_size
    for settings in built_settings(cfg):
        norm = (settings.content.get('norm_cfg') or {}).get('type')
        if norm not in BATCH_NORMS or 1 not in settings.content.get('pool_scales', ()):
            continue
        synchronized = norm == 'SyncBN' or cfg.get('sync_bn') is not None
        if batch * (processes if synchronized else 1) == 1:
            raise UserError(
                f'train_dataloader.batch_size=1 is too small: {settings.place} pools each image to one '
                'pixel, which batch norm cannot train on; give train_dataloader.batch_size=2 or more'
            )


def check_mixing(cfg: Config) -> None:
    """Check that the batch size is even if images are mixed in pairs.

    Raises:
        UserError: it is odd.
    """
    batch = cfg.train_dataloader.batch_size
    if batch % 2 and (cfg.model.get('mixup') or cfg.model.get('cutmix')):
        raise UserError(
            f'train_dataloader.batch_size={batch}: images are mixed in pairs; give an even number, or '
            'model.mixup=0 model.cutmix=0'
        )


def check_precision(cfg: Config) -> None:
    """Check that mixed-precision training has a GPU.

    Raises:
        UserError: there is no GPU.
    """
    wanted = cfg.optim_wrapper.get('type', 'OptimWrapper')
    built = OPTIM_WRAPPERS.get(wanted) if isinstance(wanted, str) else wanted
    if inspect.isclass(built) and issubclass(built, AmpOptimWrapper) and not torch.cuda.is_available():
        raise UserError(
            f'optim_wrapper.type={built.__name__} needs a GPU; remove it to train on the CPU'
        )


def check_old_names(cfg: Config, is_training: bool) -> None:
    """Check that a config does not use former names of training settings.

    When testing, drop `pretrained`, since the tested checkpoint replaces these weights.

    Args:
        cfg: config; may be changed when testing.
        is_training: whether the config will be trained.

    Raises:
        UserError: the config uses a former name; the message says what to write instead.
    """
    for place in PRETRAINED:
        holder = setting(cfg, place)
        if not isinstance(holder, dict) or not isinstance(holder.get('pretrained'), str):
            continue
        file = holder['pretrained']
        if not is_training:
            holder.pop('pretrained')
        elif file:
            raise UserError(
                f'{place}.pretrained={file!r} is no longer supported; give --pretrained {file}, or '
                f"model.backbone.init_cfg=dict(type='Pretrained', checkpoint={file!r})"
            )
    for name, (today, advice) in OLD_SETTINGS.items():
        value = cfg.get(name)
        # A config may use the name as a variable for the current setting.
        if is_training and value not in (None, False) and setting(cfg, today) != value:
            raise UserError(f'{name}={value!r} has no effect; give {advice.format(value)}')


def check_visualization(cfg: Config) -> None:
    """Check that the package of every visualization backend is installed.

    Raises:
        UserError: a package is missing.
    """
    backends = setting(cfg, 'visualizer.vis_backends') or ()
    for index, settings in enumerate(backends):
        wanted = settings.get('type') if isinstance(settings, dict) else None
        built = VISBACKENDS.get(wanted) if isinstance(wanted, str) else wanted
        # Include classes derived from one of these.
        names = [base.__name__ for base in inspect.getmro(built)] if inspect.isclass(built) else []
        for package in (PACKAGES_OF_BACKENDS[name] for name in names if name in PACKAGES_OF_BACKENDS):
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f'visualizer.vis_backends.{index} ({built.__name__}) needs the package {package}: '
                    f'pip install {package}, or remove this entry'
                )
