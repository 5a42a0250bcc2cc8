"""Checkpoints that a training takes its first weights from, by `load_from` and by `init_cfg`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

SCRATCH = 'scratch'
PRETRAINED = 'Pretrained'
# What a config may call the initializer that loads a checkpoint: a name or a class.
PRETRAINED_NAMES = (PRETRAINED, 'PretrainedInit', 'ReportedPretrained')


@dataclass(frozen=True)
class PretrainedPart:
    """A part of a model that starts from a checkpoint.

    Attributes:
        place: its path in the model, such as `roi_head.bbox_head`; empty for the whole model.
        settings: of the initializer, with `checkpoint`; the config's own dict.
    """

    place: str
    settings: dict


def pretrained_parts(model: dict) -> list[PretrainedPart]:
    """List the parts of a model whose `init_cfg` loads a checkpoint, in the order of loading.

    mmengine initializes a whole after its parts, so the weights of the last one count.

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
    """Yield the loading initializers of an `init_cfg`: a dict, a list of them, or with `override`."""
    if isinstance(entry, (list, tuple)):
        for each in entry:
            yield from _of_init_cfg(each, path)
    elif isinstance(entry, dict):
        if loads_checkpoint(entry):
            yield PretrainedPart('.'.join(path), entry)
        overrides = entry.get('override') or []
        for each in [overrides] if isinstance(overrides, dict) else overrides:
            yield from _of_init_cfg(each, (*path, str(each.get('name'))))


def loads_checkpoint(settings: dict) -> bool:
    """Return whether an initializer loads a checkpoint; one without `checkpoint` is incomplete."""
    wanted = settings.get('type')
    name = wanted if isinstance(wanted, str) else getattr(wanted, '__name__', '')
    return name.rpartition('.')[2] in PRETRAINED_NAMES and bool(settings.get('checkpoint'))


def forget_pretrained(model: dict) -> None:
    """Remove every `init_cfg` that loads a checkpoint; random ones stay."""
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
    """Return the checkpoints that a training starts from, each with the parts that it sets.

    `load_from` counts alone: it is loaded last, into the whole model. What a resumed training began with
    is in its checkpoint.
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
    """Return what timm loads while a backbone is built, such as `timm://resnet50`."""
    if backbone.get('pretrained') is True:
        return f'timm://{backbone.get("model_name", backbone.get("type"))}'
    return backbone.get('checkpoint_path') or None


def starting_weights(cfg: Config) -> str:
    """Describe where a training starts: `scratch`, or paths or URLs of checkpoints.

    A checkpoint of anything but the whole model or the backbone, or one of several, is followed by the
    parts that it sets, as in `a.pth (backbone), b.pth (neck)`.
    """
    sources = starting_sources(cfg)
    if len(sources) == 1:
        ((source, parts),) = sources.items()
        if parts in (['model'], ['backbone']):
            return source
    return ', '.join(f'{source} ({", ".join(parts)})' for source, parts in sources.items()) or SCRATCH
