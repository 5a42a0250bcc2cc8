"""Apply a protocol, which states what of a network trains, and a share of the training images.

Both are facts of the recipe in the config, so checkpoints and results state them. `frozen` changes
nothing else in a config: the runner freezes the backbone of its model.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from evaluation.config.recipe import check_stated_by_command, contestant_name, recipe_of
from evaluation.tasks import LINEAR, TASKS, stated_by_command
from evaluation.tasks.semantic_segmentation import SEMANTIC_SEGMENTATION
from evaluation.utils.errors import UserError

# Optimization and length of a linear probe: DINOv2 (Oquab et al., arXiv 2304.07193) on ADE20K, as in the
# released config of its linear head, with 16 crops of 512x512 per step.
LINEAR_OPTIMIZER = dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4)
LINEAR_ITERATIONS = 40_000
LINEAR_WARM_UP = 1500
LINEAR_START_FACTOR = 1e-6
# Settings of the optimizer wrapper that a linear probe keeps.
WRAPPER = ('type', 'accumulative_counts', 'dtype', 'loss_scale')
# A linear schedule needs a first and a last step.
SHORTEST_WARM_UP = 2
# Settings that the linear head takes over from the decode head.
KEPT = (
    'num_classes',
    'out_channels',
    'threshold',
    'ignore_index',
    'align_corners',
    'loss_decode',
    'sampler',
)


@dataclass(frozen=True)
class ProtocolOptions:
    """What a command line or a checkpoint states about the recipe.

    Attributes:
        protocol: one of `PROTOCOLS`; None if the whole network trains.
        fraction: share of the training images; None for all.
        fraction_seed: seed of the list of these images; None without a fraction.
        list_file: file with this list, to compare with; None without one.
    """

    protocol: str | None = None
    fraction: float | None = None
    fraction_seed: int | None = None
    list_file: Path | None = None

    @property
    def suffix(self) -> str:
        """End of the names of configs and work dirs, such as `_frozen_fraction_0.1_seed_0`."""
        parts = [self.protocol] if self.protocol else []
        if self.fraction is not None:
            parts.append(f'fraction_{self.fraction}_seed_{self.fraction_seed}')
        return ''.join(f'_{part}' for part in parts)

    @property
    def arguments(self) -> list[str]:
        """The options of `tools/train.py` that state the same."""
        found = ['--protocol', self.protocol] if self.protocol else []
        if self.list_file:
            found += ['--fraction', str(self.list_file)]
        elif self.fraction is not None:
            found += ['--fraction', str(self.fraction), '--fraction-seed', str(self.fraction_seed)]
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """What is stated, as facts of a recipe."""
        return stated_by_command(asdict(self))


NO_PROTOCOL = ProtocolOptions()


def use_protocol(cfg: Config, options: ProtocolOptions) -> Config:
    """Return a config with a protocol and a fraction, named after them.

    Args:
        cfg: a config before overrides; not changed.
        options: what to state; facts that the config already states may be repeated.

    Raises:
        UserError: the config states a different protocol or fraction or declares no recipe, or the
            protocol does not fit its task.
    """
    if not options.facts:
        return cfg
    recipe = recipe_of(cfg)
    if recipe is None:
        raise UserError(
            f'config {cfg.filename} declares no recipe, which protocols and fractions belong to; write '
            "recipe = dict(name='...', task='...', dataset='...')"
        )
    stated = stated_by_command(recipe.as_json())
    for fact, value in options.facts.items():
        if stated.get(fact, value) != value:
            raise UserError(
                f'config {cfg.filename} states {fact}={stated[fact]!r}, not {value!r}; give the config '
                'that it was made from'
            )
    new = {fact: value for fact, value in options.facts.items() if fact not in stated}
    if not new:
        return cfg
    content = cfg.to_dict()
    # Protocols of a network compete under its name.
    content['contestant'] = {**(content.get('contestant') or {}), 'name': contestant_name(cfg)}
    content['recipe'] = {**(content.get('recipe') or recipe.as_json()), **new}
    if new.get('protocol') == LINEAR:
        _use_linear_head(content, cfg.filename)
        _use_linear_schedule(content, cfg.filename)
    suffix = replace(NO_PROTOCOL, **new).suffix
    file = Path(cfg.filename).with_name(f'{Path(cfg.filename).stem}{suffix}.py')
    # Without a text, mmengine would look for the file, which need not exist.
    return Config(content, cfg_text=cfg.text or cfg.pretty_text, filename=file)


def _use_linear_head(content: dict[str, Any], file: str) -> None:
    """Replace neck and decode heads with a linear head on the maps of the backbone.

    Raises:
        UserError: the model is not a segmentor with one decode head.
    """
    task = TASKS[content['recipe']['task']].key
    if task != SEMANTIC_SEGMENTATION.key:
        raise UserError(
            f'--protocol {LINEAR} is for {SEMANTIC_SEGMENTATION.key}, but config {file} is for {task}; '
            'give --protocol frozen'
        )
    model = content.get('model') or {}
    head, neck = model.get('decode_head'), model.get('neck')
    kind = str(model.get('type')).rpartition('.')[2]
    if kind != 'EncoderDecoder' or not isinstance(head, dict) or 'num_classes' not in head:
        raise UserError(
            f'--protocol {LINEAR} replaces the decode head of an EncoderDecoder, but the model of '
            f'config {file} is a {kind} without one; give --protocol frozen'
        )
    first = neck[0] if isinstance(neck, (list, tuple)) else neck
    channels = (first or head).get('in_channels')
    index = None if first else head.get('in_index')
    maps: dict[str, Any] = {'in_index': [0, 1, 2, 3]}
    if isinstance(index, (list, tuple)):
        maps['in_index'] = [*index]
    if isinstance(channels, (list, tuple)):
        maps['in_channels'] = [*channels]
        if not isinstance(index, (list, tuple)):
            maps['in_index'] = [*range(len(channels))]
    kept = {name: head[name] for name in KEPT if name in head}
    model['decode_head'] = {'type': 'LinearHead', **maps, **kept}
    model.pop('auxiliary_head', None)
    model.pop('neck', None)


def _use_linear_schedule(content: dict[str, Any], file: str) -> None:
    """Set optimizer, length and learning rates of a linear probe.

    The length is that of the page, at most `LINEAR_ITERATIONS`. The warm-up, and the intervals of
    evaluations and checkpoints, keep their shares of the length.

    Raises:
        UserError: the length of the training is not in iterations.
    """
    train_cfg = content.get('train_cfg') or {}
    planned = train_cfg.get('max_iters')
    if type(planned) is not int:
        raise UserError(
            f'--protocol {LINEAR} needs a length in iterations, but config {file} has no '
            'train_cfg.max_iters; give a recipe such as configs/_base_/upernet_ade20k_160k.py'
        )
    length = min(planned, LINEAR_ITERATIONS)
    train_cfg['max_iters'] = length
    content['recipe'] |= {'iterations': length} if content['recipe'].get('iterations') else {}
    intervals = (
        (train_cfg, 'val_interval'),
        ((content.get('default_hooks') or {}).get('checkpoint') or {}, 'interval'),
    )
    for settings, name in intervals:
        if isinstance(settings.get(name), int):
            settings[name] = max(1, round(settings[name] * length / planned))
    warm_up = round(LINEAR_WARM_UP * length / LINEAR_ITERATIONS)
    warm_up = warm_up if warm_up >= SHORTEST_WARM_UP else 0
    rise = dict(type='LinearLR', start_factor=LINEAR_START_FACTOR, by_epoch=False, begin=0, end=warm_up)
    fall = dict(type='PolyLR', eta_min=0.0, power=1.0, begin=warm_up, end=length, by_epoch=False)
    content['param_scheduler'] = [rise, fall] if warm_up else [fall]
    own = content.get('optim_wrapper') or {}
    kept = {name: own[name] for name in WRAPPER if name in own}
    content['optim_wrapper'] = {**kept, 'optimizer': dict(LINEAR_OPTIMIZER)}


def stated_in(recipe: object, place: str) -> ProtocolOptions:
    """Return the protocol and fraction in the recipe of a stored config.

    Args:
        recipe: recipe of the config; anything else states nothing.
        place: where the config is stored, for messages.

    Raises:
        UserError: a value is invalid.
    """
    stated = stated_by_command(recipe)
    check_stated_by_command(place, stated)
    return ProtocolOptions(**stated)
