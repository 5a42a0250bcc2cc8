"""Starting point of a training: scratch, ImageNet weights, a whole model, or a checkpoint to resume.

Checkpoints are read and checked before data are loaded and the model is built, on the meta device.
"""

import zipfile
from pathlib import Path

from mmengine.config import Config, ConfigDict

from backbones import DamagedFileError
from backbones.checkpoint import read_checkpoint, weights_of
from evaluation.config.run_settings import LATEST, check_config_of, check_same_experiment
from evaluation.engine.checkpoints import candidates, named_checkpoint, pointer_of
from evaluation.engine.experiment import backbone_errors_reported
from evaluation.engine.pretrained_weights import (
    BACKBONE_PART,
    check_pretrained_parts,
    find_pretrained,
    takes_init_cfg,
)
from evaluation.engine.runner import TRAINING_STATE
from evaluation.models.model_weights import (
    PRETRAINED,
    SCRATCH,
    check_whole,
    fit_model,
    forget_pretrained,
    pretrained_parts,
    starting_sources,
)
from evaluation.utils.errors import UserError, warn
from evaluation.utils.meta_device import build_without_values


def set_starting_point(
    cfg: Config, pretrained: str | None, resume: str | None, is_planned: bool = False
) -> None:
    """Set the starting point in the config, and check that it fits.

    Args:
        cfg: the config; may set a starting point with `load_from` or with any `init_cfg` of the model.
        pretrained: path or URL of weights for the backbone, `released`, or `scratch` for random ones.
        resume: path or URL of a checkpoint to resume, or `latest`; overrides the config.
        is_planned: whether the checkpoint must come from this exact config, as in a sweep.

    Raises:
        UserError: a checkpoint does not exist, is damaged, requires running code, or does not fit.
    """
    # mmengine would look for a checkpoint itself, without any check.
    cfg.resume = False
    with backbone_errors_reported():
        if found := find_checkpoint(cfg.work_dir, resume):
            set_whole_model(cfg, *found, is_resumed=True)
            if is_planned:
                check_config_of(found[1], found[0], cfg)
        elif cfg.get('load_from'):
            set_whole_model(cfg, cfg.load_from, read_checkpoint(cfg.load_from), is_resumed=False)
        if cfg.resume:
            # The checkpoint includes the pretrained weights, whose file may be gone.
            forget_pretrained(cfg.model)
            if pretrained:
                warn(f'resuming from {found[0]}; --pretrained {pretrained} is not needed and is ignored')
            return
        if pretrained:
            use_pretrained(cfg, pretrained)
        check_frozen_start(cfg, pretrained)
        for part in pretrained_parts(cfg.model):
            # It may be a class, or the value that an older version wrote to a dumped config.
            part.settings['type'] = PRETRAINED
        check_pretrained_parts(cfg)


def use_pretrained(cfg: Config, wish: str) -> None:
    """Start the backbone from the weights of `--pretrained`.

    Raises:
        UserError: no released weights are known for this backbone, or the config would replace them.
    """
    if wish == SCRATCH:
        if sources := starting_sources(cfg):
            raise UserError(
                f'--pretrained {wish}, but the config starts from {next(iter(sources))}; remove one of '
                'them'
            )
        return
    for part in pretrained_parts(cfg.model):
        if not part.place:
            raise UserError(
                f'--pretrained {wish} and model.init_cfg ({part.settings["checkpoint"]}) both set the '
                'backbone; remove one of them'
            )
    if cfg.get('load_from'):
        warn(f'load_from={cfg.load_from} replaces the weights of --pretrained {wish}')
    source = find_pretrained(wish, cfg)
    settings = dict(type=PRETRAINED, checkpoint=source, key=cfg.get('checkpoint_key'))
    if takes_init_cfg(cfg):
        cfg.model.backbone.init_cfg = settings
        return
    # The model loads weights into a plain module, after all other initialization.
    others = cfg.model.get('init_cfg') or []
    others = [others] if isinstance(others, dict) else [*others]
    cfg.model.init_cfg = [*others, ConfigDict(**settings, part=BACKBONE_PART)]


def check_frozen_start(cfg: Config, pretrained: str | None) -> None:
    """Check that a frozen backbone starts from weights, unless random ones are asked for.

    Args:
        cfg: config of a new training, with its starting weights.
        pretrained: value of `--pretrained`.

    Raises:
        UserError: the backbone would keep random weights.
    """
    protocol = (cfg.get('recipe') or {}).get('protocol')
    if protocol is None or pretrained == SCRATCH:
        return
    parts = [part for parts in starting_sources(cfg).values() for part in parts]
    if not any(part == 'model' or part.split('.')[0] == BACKBONE_PART for part in parts):
        raise UserError(
            f'--protocol {protocol} freezes the backbone, which has no starting weights; give '
            f'--pretrained FILE_OR_URL, or --pretrained {SCRATCH} to keep random weights on purpose'
        )


def find_checkpoint(work_dir: str, wish: str | None) -> tuple[str, dict] | None:
    """Return path and content of the checkpoint to resume; None to start a new training.

    Args:
        work_dir: work dir of the training.
        wish: path or URL, or `latest`; None to resume nothing.

    Raises:
        BackboneError: the checkpoint cannot be read.
        UserError: the work dir has or had checkpoints, but none is intact.
    """
    if wish == LATEST:
        return latest_checkpoint(work_dir)
    return (wish, read_whole_checkpoint(wish)) if wish else None


def latest_checkpoint(work_dir: str) -> tuple[str, dict] | None:
    """Return path and content of the latest checkpoint; None if there is none.

    This is the checkpoint that `last_checkpoint` names, even if the work dir was moved, else the one
    with the highest number. If it is damaged, the previous one is used, with a warning that names both.

    Raises:
        BackboneError: a checkpoint cannot be read, for a reason other than damage.
        UserError: the checkpoint that `last_checkpoint` names is gone, without another one, or all
            checkpoints are damaged.
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
            f'no checkpoint in {work_dir} is intact: {", ".join(damage)}; '
            'restore one, or omit --resume to start over'
        )
    if named:
        raise UserError(
            f'{pointer_of(work_dir)} names {named}, which is missing, and there is no other '
            'checkpoint; restore it, or omit --resume to start over'
        )
    return None


def read_whole_checkpoint(source: str) -> dict:
    """Read a checkpoint and verify its checksums.

    `torch.load` does not verify the checksums that `torch.save` writes. Files in other formats, which
    have none, and weights alone are read without this check.

    Args:
        source: path or URL of the checkpoint.

    Raises:
        DamagedFileError: the file is empty or truncated, or a checksum does not match.
        BackboneError: the file cannot be read for another reason.
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
                f'checkpoint {source} is damaged (wrong checksum: {changed}); get it again'
            )
    return content


def _warn_of_another(work_dir: str, named: str | None, file: str, damage: list[str]) -> None:
    """Warn if the training resumes from a checkpoint other than the one that `last_checkpoint` names."""
    if damage:
        warn(f'{", ".join(damage)}; resuming from the previous one, {file}')
    elif named is None:
        warn(f'{work_dir} has no last_checkpoint; resuming from the newest intact checkpoint, {file}')
    elif not named:
        warn(f'{work_dir}/last_checkpoint is empty; resuming from the newest intact checkpoint, {file}')
    elif not Path(named).is_file():
        warn(f'{work_dir}/last_checkpoint names {named}, which is missing; resuming from {file}')


def set_whole_model(cfg: Config, source: str, content: dict, is_resumed: bool) -> None:
    """Start from a whole model; resume its training if `is_resumed`.

    A file with weights alone, such as a released one, cannot be resumed: a new training starts from
    it, with a warning.

    Raises:
        BackboneError: the weights do not fit.
        UserError: the checkpoint comes from a different experiment.
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
            f'{source} has weights but no {", ".join(lacking)}; '
            'a new training starts from them, at its first step'
        )


def check_training_state(cfg: Config, content: dict, source: str) -> None:
    """Check that the training state in a checkpoint has the form that the suite writes.

    Raises:
        UserError: an entry is invalid.
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
            f'{source} cannot be resumed: invalid {" and ".join(wrong)}; use another checkpoint, '
            'or give it as load_from to start a new training from its weights'
        )


def check_fits(cfg: Config, content: dict, source: str, strict: bool) -> None:
    """Check that a checkpoint's weights fit the model and, if `strict`, that none is missing.

    Raises:
        BackboneError: the weights do not fit.
    """
    model = build_without_values(cfg.model, cfg.default_scope)
    fitted, report = fit_model(model, weights_of(content, source, cfg.checkpoint_key), source)
    if strict:
        check_whole(model, fitted, report, source)
