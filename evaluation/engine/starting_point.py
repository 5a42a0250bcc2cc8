"""Where a training starts from: scratch, ImageNet weights, a whole model, or where another stopped.

Everything is read and compared here before time is spent on data and model, on a model without values.
"""

import zipfile
from pathlib import Path

from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from torchvision.models import ResNet50_Weights

from backbones import DamagedFileError
from backbones.checkpoint import fit_weights, read_checkpoint, select_prefix, weights_of
from evaluation.config.recipe import contestant_name
from evaluation.config.run_settings import LATEST, check_config_of, check_same_experiment
from evaluation.engine.checkpoints import candidates, named_checkpoint, pointer_of
from evaluation.engine.experiment import backbone_errors_reported
from evaluation.engine.runner import TRAINING_STATE
from evaluation.models.model_weights import (
    PRETRAINED,
    check_whole,
    fit_model,
    fit_part,
    forget_pretrained,
    pretrained_parts,
)
from evaluation.results.published import load_published
from evaluation.tasks.classification import CLASSIFICATION
from evaluation.utils.errors import UserError, warn
from evaluation.utils.meta_device import build_without_values

# Backbones that load a checkpoint as it should be, or raise, though `init_weights` is their own.
STRICT_BACKBONES = ('UnifiedBackbone', 'UnifiedClassifier')


def set_starting_point(
    cfg: Config, pretrained: str | None, resume: str | None, is_planned: bool = False
) -> None:
    """Note in the config where to start from, and check that it fits.

    Args:
        cfg: the config; may name a start itself, by `load_from` or by any `init_cfg` of the model.
        pretrained: path or URL of weights for the backbone, or `released`.
        resume: path or URL of a checkpoint to go on from, or `latest`, whatever the config says.
        is_planned: whether it must have been written under this very config, as in a sweep.

    Raises:
        UserError: a checkpoint does not exist, is damaged, needs code to be run, or does not fit.
    """
    # mmengine would look for a checkpoint by itself, and check nothing.
    cfg.resume = False
    with backbone_errors_reported():
        if found := find_checkpoint(cfg.work_dir, resume):
            set_whole_model(cfg, *found, is_resumed=True)
            if is_planned:
                check_config_of(found[1], found[0], cfg)
        elif cfg.get('load_from'):
            set_whole_model(cfg, cfg.load_from, read_checkpoint(cfg.load_from), is_resumed=False)
        if cfg.resume:
            # What the training began with is in the checkpoint, and its file may be gone.
            forget_pretrained(cfg.model)
            if pretrained:
                warn(f'going on from {found[0]}: --pretrained {pretrained} is not needed and not read')
            return
        if pretrained:
            use_pretrained(cfg, pretrained)
        for part in pretrained_parts(cfg.model):
            # A class, or what an older version wrote into a dumped config.
            part.settings['type'] = PRETRAINED
        check_pretrained_parts(cfg)


def use_pretrained(cfg: Config, wish: str) -> None:
    """Start the backbone from what `--pretrained` names.

    Raises:
        UserError: no released weights are known for this backbone, or the config would replace them.
    """
    for part in pretrained_parts(cfg.model):
        if not part.place:
            raise UserError(
                f'--pretrained {wish} and model.init_cfg ({part.settings["checkpoint"]}) both set the '
                'backbone; leave out one of them'
            )
    if cfg.get('load_from'):
        warn(f'load_from={cfg.load_from} replaces the weights of --pretrained {wish}')
    source = find_pretrained(wish, cfg)
    cfg.model.backbone.init_cfg = dict(type=PRETRAINED, checkpoint=source, key=cfg.get('checkpoint_key'))


def find_checkpoint(work_dir: str, wish: str | None) -> tuple[str, dict] | None:
    """Where a checkpoint to go on from lies, and its content; None to start anew.

    Args:
        work_dir: of the training.
        wish: path or URL, or `latest`; None for none.

    Raises:
        BackboneError: it cannot be read.
        UserError: there were checkpoints in the work dir, and none is left that is whole.
    """
    if wish == LATEST:
        return latest_checkpoint(work_dir)
    return (wish, read_whole_checkpoint(wish)) if wish else None


def latest_checkpoint(work_dir: str) -> tuple[str, dict] | None:
    """Path and content of the checkpoint to go on from; None if there is none.

    It is the one that `last_checkpoint` names, wherever the work dir lies now, else the newest by its
    number. One that is damaged is passed over for the one before, with a warning that names both.

    Raises:
        BackboneError: a checkpoint cannot be read for another reason than damage.
        UserError: `last_checkpoint` names one that is gone and there is no other, or none is whole.
    """
    named = named_checkpoint(work_dir)
    damage: list[str] = []
    for file in candidates(Path(work_dir)):
        try:
            content = read_whole_checkpoint(str(file))
        except DamagedFileError as error:
            damage.append(str(error).partition(';')[0])
            continue
        _warn_of_another(work_dir, named, str(file), damage)
        return str(file), content
    if damage:
        raise UserError(
            f'no checkpoint in {work_dir} is whole: {", ".join(damage)}; '
            'restore one, or leave --resume out to start anew'
        )
    if named:
        raise UserError(
            f'{pointer_of(work_dir)} names {named}, which is not there, nor is any other '
            'checkpoint; restore it, or leave --resume out to start anew'
        )
    return None


def read_whole_checkpoint(source: str) -> dict:
    """Content of a checkpoint whose bytes are those that were written.

    `torch.load` does not compare the checksums that `torch.save` writes. Files that have none, of other
    formats or from elsewhere, are read as they are.

    Args:
        source: path or URL.

    Raises:
        DamagedFileError: the file is empty, truncated, or a checksum differs.
        BackboneError: it cannot be read for another reason.
    """
    content = read_checkpoint(source)
    if 'optimizer' in content and Path(source).is_file() and zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as file:
            try:
                changed = file.testzip()
            except (zipfile.BadZipFile, OSError) as error:
                changed = str(error)
        if changed:
            raise DamagedFileError(
                f'checkpoint {source} is damaged (checksum of {changed}); get it again'
            )
    return content


def _warn_of_another(work_dir: str, named: str | None, file: str, damage: list[str]) -> None:
    """Say why the training goes on from another checkpoint than `last_checkpoint` names."""
    if damage:
        warn(f'{", ".join(damage)}; going on from the one before, {file}')
    elif named is None:
        warn(f'{work_dir} has no last_checkpoint; going on from the newest that is whole, {file}')
    elif not named:
        warn(f'{work_dir}/last_checkpoint is empty; going on from the newest that is whole, {file}')
    elif not Path(named).is_file():
        warn(f'{work_dir}/last_checkpoint names {named}, which is not there; going on from {file}')


def find_pretrained(wish: str, cfg: Config) -> str:
    """Path or URL of the weights to start from; `released` is looked up by the config's backbone.

    Raises:
        UserError: no released weights are known for this backbone.
    """
    if wish != 'released':
        return wish
    kind = cfg.model.backbone.type
    if kind == 'ResNet' and cfg.model.backbone.get('depth') == 50:
        return ResNet50_Weights.IMAGENET1K_V1.url
    backbone, wanted = contestant_name(cfg), CLASSIFICATION.metrics[0].published
    for entry in load_published():
        if not str(kind).startswith('Unified'):
            break
        if entry.model == backbone and entry.checkpoint and wanted in entry.figures:
            return entry.checkpoint
    raise UserError(f'no released ImageNet weights are known for {backbone}; give a path or URL')


def check_pretrained_parts(cfg: Config) -> None:
    """Check that what every `init_cfg` of the model names can be read and fits its part.

    Raises:
        BackboneError: it cannot, or does not.
    """
    parts = pretrained_parts(cfg.model)
    of_backbone = [part for part in parts if part.place == 'backbone']
    if of_backbone and is_strict(cfg):
        check_backbone(cfg, of_backbone[-1].settings)
        parts = [part for part in parts if part.place != 'backbone']
    if not parts:
        return
    model = build_without_values(cfg.model, cfg.default_scope)
    for part in parts:
        settings = part.settings
        try:
            module = model.get_submodule(part.place)
        except AttributeError:  # Built elsewhere in the model. The report in the log will tell.
            continue
        fit_part(module, settings['checkpoint'], settings.get('prefix'), settings.get('key'))


def is_strict(cfg: Config) -> bool:
    """Return whether most weights of a backbone must be in its checkpoint.

    Networks that load by code of their own may rename what they read.

    Raises:
        UserError: the backbone loads nothing.
    """
    wanted = cfg.model.backbone.type
    if wanted in STRICT_BACKBONES:
        return True
    with (
        DefaultScope.overwrite_default_scope(cfg.default_scope),
        MODELS.switch_scope_and_registry(None) as registry,
    ):
        network = registry.get(wanted) if isinstance(wanted, str) else wanted
    if not hasattr(network, 'init_weights'):
        raise UserError(
            f'model.backbone.init_cfg: {wanted} has no init_weights, so that nothing would be loaded; '
            "derive it from mmengine's BaseModule, or give load_from"
        )
    return network.init_weights is BaseModule.init_weights


def check_backbone(cfg: Config, settings: dict) -> None:
    """Check that what an `init_cfg` of the backbone names can be read and fits.

    Raises:
        BackboneError: it cannot, or does not.
    """
    source = settings['checkpoint']
    weights = weights_of(read_checkpoint(source), source, settings.get('key'))
    fit_weights(
        build_without_values(cfg.model.backbone, cfg.default_scope),
        select_prefix(weights, settings.get('prefix'), source),
        source,
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
    model = build_without_values(cfg.model, cfg.default_scope)
    fitted, report = fit_model(model, weights_of(content, source, cfg.checkpoint_key), source)
    if strict:
        check_whole(model, fitted, report, source)
