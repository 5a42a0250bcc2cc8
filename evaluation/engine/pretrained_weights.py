"""Pretrained weights of a backbone: where they come from, and whether they fit."""

from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torchvision.models import ResNet50_Weights

from backbones.checkpoint import fit_weights, read_checkpoint, select_prefix, weights_of
from evaluation.config.recipe import contestant_name, declared_contestant
from evaluation.config.settings import signature_keywords
from evaluation.engine.experiment import backbone_errors_reported
from evaluation.models.model_weights import (
    fit_part,
    pretrained_parts,
)
from evaluation.results.published import load_published
from evaluation.tasks.classification import CLASSIFICATION
from evaluation.utils.errors import UserError
from evaluation.utils.meta_device import build_without_values

BACKBONE_PART = 'backbone'


def find_pretrained(wish: str, cfg: Config) -> str:
    """Return path or URL of the weights to start from; `released` is looked up by backbone.

    Raises:
        UserError: no released weights are known for this backbone.
    """
    if wish != 'released':
        return wish
    kind = cfg.model.backbone.type
    if kind == 'ResNet' and cfg.model.backbone.get('depth') == 50:
        return ResNet50_Weights.IMAGENET1K_V1.url
    network = network_of(cfg)
    if hasattr(network, 'released_weights'):
        with backbone_errors_reported():
            return build_without_values(cfg.model.backbone, cfg.default_scope).released_weights()
    # Without options, as in `dcn_tiny(drop_path_rate=0.1)`.
    backbone = contestant_name(cfg).partition('(')[0]
    wanted = CLASSIFICATION.metrics[0].published
    for entry in load_published():
        if getattr(network, 'family', None) != 'unified':
            break
        if entry.model == backbone and entry.checkpoint and wanted in entry.figures:
            return entry.checkpoint
    raise UserError(f'no released ImageNet weights are known for {backbone}; give a path or URL')


def pretrained_of(wish: str | None, cfg: Config, seed: int | None) -> str | None:
    """Return the initial weights of a run, with `{name}`, `{mixer}`, `{scale}` and `{seed}` filled in.

    Args:
        wish: value of `--pretrained`.
        cfg: config of the training.
        seed: seed of the training.

    Raises:
        UserError: a placeholder is unknown, or its value is not declared in the config.
    """
    if wish is None or '{' not in wish:
        return wish
    declared = declared_contestant(cfg)
    mixer = (cfg.model.backbone.get('mixer') or {}).get('type')
    names = {
        'name': contestant_name(cfg),
        'mixer': declared.get('mixer', mixer),
        'scale': declared.get('scale'),
        'seed': seed,
    }
    for name, value in names.items():
        if value is None and f'{{{name}}}' in wish:
            raise UserError(
                f'--pretrained {wish}: {cfg.filename} declares no {name}; add the line '
                f"contestant = dict({name}='...')"
            )
        wish = wish.replace(f'{{{name}}}', str(value))
    if '{' in wish or '}' in wish:
        raise UserError(f'--pretrained {wish}: unknown name in braces; use only {", ".join(names)}')
    return wish


def check_pretrained_parts(cfg: Config) -> None:
    """Check that the checkpoint of every `init_cfg` in the model can be read and fits its part.

    Raises:
        BackboneError: a checkpoint cannot be read or does not fit.
    """
    parts = pretrained_parts(cfg.model)
    of_backbone = [part for part in parts if part.place == BACKBONE_PART]
    if of_backbone and is_strict(cfg):
        check_backbone(cfg, of_backbone[-1].settings)
        parts = [part for part in parts if part.place != BACKBONE_PART]
    if not parts:
        return
    model = build_without_values(cfg.model, cfg.default_scope)
    for part in parts:
        settings = part.settings
        try:
            module = model.get_submodule(part.place)
        except AttributeError:  # Built elsewhere in the model; the report in the log covers it.
            continue
        fit_part(module, settings['checkpoint'], settings.get('prefix'), settings.get('key'))


def is_strict(cfg: Config) -> bool:
    """Return whether most weights of a backbone must be in its checkpoint.

    Networks with their own loading code may rename weights, so they are not checked, unless they state
    `loads_strictly`. The suite's own loader is strict.

    Raises:
        UserError: the backbone has an `init_cfg`, but no `init_weights`, so it loads nothing.
    """
    network = network_of(cfg)
    if getattr(network, 'loads_strictly', False) or not takes_init_cfg(cfg):
        return True
    if not hasattr(network, 'init_weights'):
        raise UserError(
            f'model.backbone.init_cfg: {cfg.model.backbone.type} has no init_weights, so nothing would '
            "be loaded; derive it from mmengine's BaseModule, or use --pretrained"
        )
    return network.init_weights is BaseModule.init_weights


def takes_init_cfg(cfg: Config) -> bool:
    """Return whether the backbone loads the checkpoint of its own `init_cfg`, as OpenMMLab's do.

    Other modules are loaded by the model that contains them.
    """
    if cfg.model.backbone.get('init_cfg'):
        return True
    network = network_of(cfg)
    takes = 'init_cfg' in signature_keywords(network).names
    return takes and hasattr(network, 'init_weights')


def network_of(cfg: Config) -> type[nn.Module]:
    """Return the class of the backbone."""
    wanted = cfg.model.backbone.type
    with (
        DefaultScope.overwrite_default_scope(cfg.default_scope),
        MODELS.switch_scope_and_registry(None) as registry,
    ):
        return registry.get(wanted) if isinstance(wanted, str) else wanted


def check_backbone(cfg: Config, settings: dict) -> None:
    """Check that the checkpoint of the backbone's `init_cfg` can be read and fits.

    Raises:
        BackboneError: the checkpoint cannot be read or does not fit.
    """
    source = settings['checkpoint']
    weights = weights_of(read_checkpoint(source), source, settings.get('key'))
    fit_weights(
        build_without_values(cfg.model.backbone, cfg.default_scope),
        select_prefix(weights, settings.get('prefix'), source),
        source,
    )
