"""Where a training starts from: scratch, ImageNet weights, a whole model, or where another stopped.

Everything is read and compared here before time is spent on data and model, on a model without values.
"""

import copy
import re

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torchvision.models import ResNet50_Weights

from backbones.checkpoint import fit_weights, read_checkpoint, select_prefix, weights_of
from evaluation.checkpoints.latest import latest_checkpoint, read_whole_checkpoint
from evaluation.config.resume_checks import check_config_of, check_same_experiment
from evaluation.errors import UserError, warn
from evaluation.experiment import backbone_errors_reported
from evaluation.model_loading import check_whole, fit_model
from evaluation.recipe import RELEASED
from evaluation.results.description import config_name
from evaluation.results.result import TASKS
from evaluation.runner import TRAINING_STATE
from evaluation.tables.published import load_published

# Types of `init_cfg` that load a checkpoint or raise; others are left to mmengine.
REPORTING_INITIALIZERS = {'UnifiedBackbone': 'Pretrained', 'UnifiedClassifier': 'Pretrained'}
OTHER_INITIALIZER = 'ReportedPretrained'


def set_starting_point(
    cfg: Config, pretrained: str | None, resume: str | None, config_sha256: str | None = None
) -> None:
    """Note in the config where to start from, and check that it fits.

    Args:
        cfg: the config; may name a start itself, by `load_from` or by the backbone's `init_cfg`.
        pretrained: path or URL of weights for the backbone, or `released`.
        resume: path or URL of a checkpoint to go on from, or `latest`.
        config_sha256: digest of the config under which that must have been written; None for any.

    Raises:
        UserError: a checkpoint does not exist, is damaged, needs code to be run, or does not fit.
    """
    backbone = cfg.model.backbone
    with backbone_errors_reported():
        if found := checkpoint_to_resume(cfg.work_dir, resume):
            set_whole_model(cfg, *found, is_resumed=True)
            if config_sha256:
                check_config_of(found[1], found[0], config_sha256)
        elif cfg.load_from:
            set_whole_model(cfg, cfg.load_from, read_checkpoint(cfg.load_from), is_resumed=False)
        if cfg.resume:
            # What the training began with is in the checkpoint, and its file may be gone.
            backbone.init_cfg = None
            if pretrained:
                warn(f'going on from {found[0]}: --pretrained {pretrained} is not needed and not read')
            return
        if pretrained:
            backbone.init_cfg = dict(
                type=REPORTING_INITIALIZERS.get(backbone.type, OTHER_INITIALIZER),
                checkpoint=find_pretrained(pretrained, cfg),
                key=cfg.checkpoint_key,
            )
        report_loading(cfg, backbone)
        check_backbone(cfg)


def checkpoint_to_resume(work_dir: str, wish: str | None) -> tuple[str, dict] | None:
    """Where a checkpoint to go on from lies, and its content; None to start anew.

    Args:
        work_dir: of the training.
        wish: path or URL, or `latest`; None for none.

    Raises:
        BackboneError: it cannot be read.
        UserError: there were checkpoints in the work dir, and none is left that is whole.
    """
    if wish == 'latest':
        return latest_checkpoint(work_dir)
    return (wish, read_whole_checkpoint(wish)) if wish else None


def find_pretrained(wish: str, cfg: Config) -> str:
    """Path or URL of the weights to start from; `released` is looked up by the config's backbone.

    Raises:
        UserError: no released weights are known for this backbone.
    """
    if wish != 'released':
        return wish
    if cfg.model.backbone.type == 'ResNet':
        return ResNet50_Weights.IMAGENET1K_V1.url
    name = config_name(cfg.filename).removesuffix(f'_{RELEASED}')
    backbone = re.sub(f'^({"|".join(TASKS)})_', '', name)
    for entry in load_published():
        if entry.model == backbone and entry.task == 'imagenet' and entry.checkpoint:
            return entry.checkpoint
    raise UserError(f'no released ImageNet weights are known for {backbone}; give a path or URL')


def report_loading(cfg: Config, backbone: ConfigDict) -> None:
    """Let networks of others load with a report, where mmengine would load what happens to fit.

    Those with a loading of their own keep it.
    """
    wish = backbone.get('init_cfg')
    if not isinstance(wish, dict) or wish.type != 'Pretrained':
        return
    with (
        DefaultScope.overwrite_default_scope(cfg.default_scope),
        MODELS.switch_scope_and_registry(None) as registry,
    ):
        network = registry.get(backbone.type)
    if backbone.type not in REPORTING_INITIALIZERS and network.init_weights is BaseModule.init_weights:
        wish.type = OTHER_INITIALIZER


def check_backbone(cfg: Config) -> None:
    """Check that what the backbone's `init_cfg` names can be read and fits.

    Raises:
        BackboneError: it cannot, or does not.
    """
    backbone = cfg.model.backbone
    wish = backbone.get('init_cfg')
    reporting = REPORTING_INITIALIZERS.get(backbone.type, OTHER_INITIALIZER)
    # A list initialises layers one by one, from no checkpoint.
    if not isinstance(wish, dict) or wish.type != reporting:
        return
    source = wish.checkpoint
    weights = weights_of(read_checkpoint(source), source, wish.get('key'))
    fit_weights(
        without_values(cfg, backbone), select_prefix(weights, wish.get('prefix'), source), source
    )


def set_whole_model(cfg: Config, source: str, content: dict, is_resumed: bool) -> None:
    """Start from a whole model, and from where its training stopped if `is_resumed`.

    A file of weights alone, such as a released one, cannot be gone on from: a new training starts with
    it, and a warning says so.

    Raises:
        BackboneError: the weights do not fit.
        UserError: its training was another experiment.
    """
    lacking = [part for part in TRAINING_STATE if part not in content]
    cfg.load_from = source
    cfg.resume = is_resumed and not lacking
    if cfg.resume:
        check_training_state(cfg, content, source)
        check_same_experiment(cfg, content, source)
    check_fits(cfg, content, source, strict=cfg.resume)
    if is_resumed and lacking:
        warn(
            f'{source} holds weights without {", ".join(lacking)}: '
            'a new training starts with them, at its first step'
        )


def check_training_state(cfg: Config, content: dict, source: str) -> None:
    """Check that a checkpoint holds what the suite's trainings write.

    Raises:
        UserError: a part of it is not of the right kind.
    """
    meta, hub, optimizer, schedulers = (content[part] for part in TRAINING_STATE)
    sound = {
        'meta': isinstance(meta, dict)
        and all(type(meta.get(n)) is int for n in ('epoch', 'iter', 'seed')),
        'message_hub': isinstance(hub, dict) and {'log_scalars', 'runtime_info'} <= hub.keys(),
        'optimizer': isinstance(optimizer, dict) and {'state', 'param_groups'} <= optimizer.keys(),
        'param_schedulers': isinstance(schedulers, list) and len(schedulers) == len(cfg.param_scheduler),
    }
    wrong = [part for part, is_sound in sound.items() if not is_sound]
    if wrong:
        raise UserError(
            f'{source} cannot be gone on from: its {" and ".join(wrong)} are not what a training '
            'writes; take another checkpoint, or give it as load_from to start anew with its weights'
        )


def check_fits(cfg: Config, content: dict, source: str, strict: bool) -> None:
    """Check that a checkpoint's weights fit the model, whole if `strict`.

    Raises:
        BackboneError: they do not.
    """
    model = without_values(cfg, cfg.model)
    fitted, report = fit_model(model, weights_of(content, source, cfg.checkpoint_key), source)
    if strict:
        check_whole(model, fitted, report, source)


def without_values(cfg: Config, model: dict) -> nn.Module:
    """A model of the right shapes that takes no time and memory.

    Raises:
        BackboneError: the backbone's settings are wrong.
    """
    # Detectors write into their configs, and this one is compared, dumped and stored in checkpoints.
    config = copy.deepcopy(model)
    if 'init_cfg' in config:
        config['init_cfg'] = None
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        return MODELS.build(config)
