"""Load weights into a model or a part of it with a report, and name the starting weights of a run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, PretrainedInit, is_model_wrapper, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from backbones import BackboneError
from backbones.checkpoint import (
    LoadReport,
    compare,
    fit_weights,
    in_module_names,
    in_own_names,
    load_fitting,
    load_pretrained,
    read_checkpoint,
    select_prefix,
    weights_of,
)

SCRATCH = 'scratch'
PRETRAINED = 'Pretrained'
# Names of the initializer that loads a checkpoint; a config can have a name or a class.
PRETRAINED_NAMES = (PRETRAINED, 'PretrainedInit', 'ReportedPretrained')


@dataclass(frozen=True)
class PretrainedPart:
    """Part of a model that starts from a checkpoint.

    Attributes:
        place: path of the part in the model, such as `roi_head.bbox_head`; empty for the whole model.
        settings: settings of the initializer, with `checkpoint`; the dict in the config, not a copy.
    """

    place: str
    settings: dict


def pretrained_parts(model: dict) -> list[PretrainedPart]:
    """List the parts of a model whose `init_cfg` loads a checkpoint, in the order of loading.

    mmengine initializes a module after its submodules, so the last checkpoint overwrites earlier ones.

    Args:
        model: config of the model.
    """
    found = list(_pretrained_below(model, ()))
    return sorted(found, key=lambda part: (-len(list(filter(None, part.place.split('.')))), part.place))


def _pretrained_below(value: Any, path: tuple[str, ...]) -> Iterator[PretrainedPart]:
    if isinstance(value, dict):
        for name, entry in value.items():
            if name == 'init_cfg':
                yield from _of_init_cfg(entry, path)
            else:
                yield from _pretrained_below(entry, (*path, str(name)))
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from _pretrained_below(entry, (*path, str(index)))


def _of_init_cfg(entry: Any, path: tuple[str, ...]) -> Iterator[PretrainedPart]:
    """Yield the initializers of an `init_cfg` that load checkpoints, including lists and `override`."""
    if isinstance(entry, (list, tuple)):
        for each in entry:
            yield from _of_init_cfg(each, path)
    elif isinstance(entry, dict):
        if loads_checkpoint(entry):
            yield PretrainedPart('.'.join([*path, *filter(None, [entry.get('part')])]), entry)
        overrides = entry.get('override') or []
        for each in [overrides] if isinstance(overrides, dict) else overrides:
            yield from _of_init_cfg(each, (*path, str(each.get('name'))))


def loads_checkpoint(settings: dict) -> bool:
    """Return whether an initializer loads a checkpoint; False if `checkpoint` is missing."""
    wanted = settings.get('type')
    name = wanted if isinstance(wanted, str) else getattr(wanted, '__name__', '')
    return name.rpartition('.')[2] in PRETRAINED_NAMES and bool(settings.get('checkpoint'))


def forget_pretrained(model: dict) -> None:
    """Remove every `init_cfg` that loads a checkpoint, but keep random initialization."""
    parts = [part.settings for part in pretrained_parts(model)]
    _remove(model, [id(settings) for settings in parts])


def _remove(value: Any, unwanted: list[int]) -> None:
    if isinstance(value, dict):
        for name, entry in list(value.items()):
            if id(entry) in unwanted:
                del value[name]
            elif isinstance(entry, list) and any(id(each) in unwanted for each in entry):
                value[name] = [each for each in entry if id(each) not in unwanted] or None
            else:
                _remove(entry, unwanted)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _remove(entry, unwanted)


def starting_sources(cfg: Config) -> dict[str, list[str]]:
    """Return the checkpoints that a training starts from, and the parts that each one sets.

    `load_from` overrides the others, because it is loaded last, into the whole model. It is ignored in a
    resumed training, whose checkpoint records the starting weights.
    """
    if cfg.get('load_from') and not cfg.get('resume'):
        return {cfg.load_from: ['model']}
    found: dict[str, list[str]] = {}
    for part in pretrained_parts(cfg.model):
        found.setdefault(str(part.settings['checkpoint']), []).append(part.place or 'model')
    own = _loaded_at_construction(cfg.model.get('backbone') or {})
    if own:
        found.setdefault(own, []).append('backbone')
    return found


def _loaded_at_construction(backbone: dict) -> str | None:
    """Return the weights that timm loads when it builds a backbone, such as `timm://resnet50`."""
    if backbone.get('pretrained') is True:
        return f'timm://{backbone.get("model_name", backbone.get("type"))}'
    return backbone.get('checkpoint_path') or None


def starting_weights(cfg: Config) -> str:
    """Describe the starting weights of a training: `scratch`, or paths or URLs of checkpoints.

    With several checkpoints, or one that sets neither the whole model nor the backbone, each is followed
    by its parts, as in `a.pth (backbone), b.pth (neck)`.
    """
    sources = starting_sources(cfg)
    if len(sources) == 1:
        ((source, parts),) = sources.items()
        if parts in (['model'], ['backbone']):
            return source
    return ', '.join(f'{source} ({", ".join(parts)})' for source, parts in sources.items()) or SCRATCH


BACKBONE = 'backbone.'
BACKBONE_ALONE = {'': 'the file has only a backbone, so the rest is not loaded'}


@dataclass
class ModelLoadReport:
    """Report on loading a checkpoint into a whole model.

    Attributes:
        backbone: report on the parameters under `backbone.`.
        rest: report on neck and heads.
    """

    backbone: LoadReport
    rest: LoadReport

    def __str__(self) -> str:
        return f'backbone: {self.backbone}\n  neck and heads: {self.rest}'


def fit_model(
    model: nn.Module, weights: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], ModelLoadReport]:
    """Return the weights that fit a model, with the model's names and shapes, and a report.

    Args:
        model: model with a `backbone`.
        weights: weights of a whole model, or of only a backbone or classifier.
        source: path or URL of the weights, for messages.

    Raises:
        BackboneError: less than 90 % of the backbone's parameters fit.
    """
    is_whole = any(name.startswith(BACKBONE) for name in weights)
    of_backbone = {
        name.removeprefix(BACKBONE): value
        for name, value in weights.items()
        if not is_whole or name.startswith(BACKBONE)
    }
    fitting, backbone = fit_weights(model.backbone, of_backbone, source)
    own_rest = {name: v for name, v in model.state_dict().items() if not name.startswith(BACKBONE)}
    of_rest = {n: v for n, v in weights.items() if is_whole and not n.startswith(BACKBONE)}
    of_rest = in_own_names(of_rest, own_rest)
    rest = compare(own_rest, of_rest, unused={}, absent={} if is_whole else BACKBONE_ALONE)
    fitted = {BACKBONE + name: value for name, value in fitting.items()}
    return {**fitted, **{name: of_rest[name] for name in rest.loaded}}, ModelLoadReport(backbone, rest)


def check_whole(
    model: nn.Module, fitted: Mapping[str, Tensor], report: ModelLoadReport, source: str
) -> None:
    """Check that a checkpoint has every weight of a model, and no others.

    Raises:
        BackboneError: weights are missing, left over or of a different shape; the message names one.
    """
    lost = [name for name in model.state_dict() if name not in fitted]
    missing = [name for name in lost if not name.endswith('.num_batches_tracked')]
    mismatched = [
        *(BACKBONE + entry for entry in report.backbone.mismatched),
        *report.rest.mismatched,
    ]
    left_over = [*(BACKBONE + name for name in report.backbone.unexpected), *report.rest.unexpected]
    wrong = [
        f'{count(len(names), "weight")} {word}, such as {names[0]}'
        for names, word in (
            (mismatched, 'of a different shape'),
            ([] if mismatched else missing, 'missing'),
            (left_over, 'left over'),
        )
        if names
    ]
    if not wrong:
        return
    if report.rest.expected:
        raise BackboneError(
            f'checkpoint {source} has only a backbone, of which {report.backbone.share:.1%} fits '
            f'({wrong[0]}); give a checkpoint of the whole {type(model).__name__}'
        )
    raise BackboneError(
        f'checkpoint {source} does not fit this {type(model).__name__}: {"; ".join(wrong)}; '
        'use the config that it was trained with'
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside wrappers for distributed runs and test-time augmentation."""
    model = model.module if is_model_wrapper(model) else model
    return model.module if isinstance(model, BaseTTAModel) else model


def count(number: int, noun: str) -> str:
    """Return a number and a noun, as in `1 weight` or `2 weights`."""
    return f'{number} {noun}' + ('' if number == 1 else 's')


@WEIGHT_INITIALIZERS.register_module(name=[PRETRAINED, 'ReportedPretrained'], force=True)
class ReportedPretrained(PretrainedInit):
    """Load a checkpoint into a module and log a report. Replaces mmengine's initializer of this name.

    Args:
        checkpoint: path or URL.
        prefix: prefix of the module's weights in the checkpoint, such as `neck.`; None to look for
            `backbone.`.
        map_location: ignored; weights are loaded on the CPU.
        key: entry of the checkpoint that holds the weights; see `weights_of`.
        part: name of a submodule to load into instead, of which 90 % must fit, such as `backbone`. For
            modules that do not take an `init_cfg` themselves; loaded after all other initialization.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str = 'cpu',
        key: str | None = None,
        part: str | None = None,
    ) -> None:
        super().__init__(checkpoint, prefix, map_location)
        self.key = key
        self.part = part

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint.

        Raises:
            BackboneError: the file cannot be read, none of its weights fit, or loading changes nothing.
        """
        if self.part:
            load_pretrained(module.get_submodule(self.part), self.checkpoint, self.prefix, self.key)
        else:
            fitting, report = fit_part(module, self.checkpoint, self.prefix, self.key)
            load_fitting(module, fitting, self.checkpoint)
            print_log(f'{self.checkpoint}, into {type(module).__name__}: {report}', logger='current')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


def fit_part(
    module: nn.Module, source: str, prefix: str | None = None, key: str | None = None
) -> tuple[Mapping[str, Tensor], LoadReport | ModelLoadReport]:
    """Select the weights of a checkpoint that fit a model or a part of one.

    Args:
        module: model with a `backbone`, or part of it.
        source: path or URL.
        prefix: see `ReportedPretrained`.
        key: see `weights_of`.

    Raises:
        BackboneError: the file cannot be read, none of its weights fit, or less than 90 % of the
            backbone of a whole model fits.
    """
    weights = weights_of(read_checkpoint(source), source, key)
    is_model = isinstance(getattr(module, 'backbone', None), nn.Module)
    if prefix is not None or not is_model:
        weights = select_prefix(weights, prefix, source)
    if is_model:
        return fit_model(module, weights, source)
    own = module.state_dict()
    weights = in_module_names(module, weights)
    report = compare(own, weights)
    if not report.loaded:
        first = next(iter(weights))
        raise BackboneError(
            f'checkpoint {source} has no weights that fit {type(module).__name__}, whose init_cfg names '
            f'it (it has {first}, for example); set init_cfg.prefix, or use a different checkpoint'
        )
    return {name: weights[name] for name in report.loaded}, report
