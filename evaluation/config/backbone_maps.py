"""Maps of a backbone: their channels and strides, and the normalization of its weights.

A backbone without values runs on the `meta` device, so this takes neither memory nor weights. One that
does not run there runs on the CPU, on a small image.
"""

import copy
import functools
import inspect
import json
import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from backbones import BackboneError
from backbones.maps import STRIDES, normalization_of
from evaluation.config.config_text import TRUSTED
from evaluation.config.settings import keywords_of, registered, registered_names
from evaluation.utils.errors import UserError, did_you_mean
from evaluation.utils.meta_device import build_without_values
from evaluation.utils.random_state import seeded

PLACE = 'model.backbone'
# Height and width differ, so that the order of axes can be recognized.
SIZE = (192, 320)


@dataclass(frozen=True)
class BackboneFacts:
    """What a backbone tells about itself.

    Attributes:
        channels: channels of each map; of the logits for a classifier.
        strides: stride of each map; None for logits.
        normalization: `mean` and `std` of images that its weights expect, for values from 0 to 255 in
            RGB order; None if it states none.
        num_classes: attribute of this name; None if it has none.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...] | None
    normalization: dict[str, list[float]] | None
    num_classes: int | None


class UnknownMapsError(UserError):
    """A backbone does not run on a small image, or does not return maps."""


def name_of(settings: Mapping) -> str:
    """Return the name of a backbone for messages, such as `my_net.Net`."""
    kind = settings.get('model_name') or settings.get('type')
    return str(getattr(kind, '__name__', kind))


def check_settings(settings: Mapping, scope: str | None) -> None:
    """Check the settings of a backbone against the constructor of its class.

    Raises:
        UserError: the class is unknown, or an argument is misspelled or missing.
    """
    kind = settings.get('type')
    found = registered(kind, scope or 'mmengine') if kind is not None else []
    if not found:
        near = did_you_mean(str(kind), registered_names(scope or 'mmengine'))
        raise UserError(f'{PLACE}.type={kind!r} is unknown{near}')
    known = keywords_of(settings, PLACE, scope or 'mmengine')
    for key in settings:
        if known.refuse(key):
            near = did_you_mean(key, known.names)
            raise UserError(f'{PLACE}.{key} is not a setting of {kind}{near}')
    network = found[0][1]
    missing = [name for name in _required(network) if name not in settings]
    if missing:
        raise UserError(
            f'{PLACE}: {name_of(settings)} needs {" and ".join(missing)}; give --backbone '
            f"'...({', '.join(f'{name}=...' for name in missing)})'"
        )


def _required(network: Any) -> list[str]:
    """Return the names of arguments that a class has no defaults for."""
    try:
        parameters = inspect.signature(network).parameters.values()
    except ValueError:  # written in C
        return []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]


def facts_of(settings: Mapping, scope: str | None, size: tuple[int, int] | None = None) -> BackboneFacts:
    """Return channels and strides of the maps of a backbone, and its normalization.

    Args:
        settings: config of the backbone.
        scope: library whose registry is searched first, such as `mmdet`.
        size: height and width of an image to try if the backbone takes no small ones.

    Raises:
        UnknownMapsError: it runs neither on the small image nor on this one, or returns no maps and no
            logits.
        UserError: it cannot be built.
    """
    plain = copy.deepcopy(dict(settings))
    return _facts_of(_Comparable(json.dumps(plain, sort_keys=True, default=repr), plain), scope, size)


@dataclass(frozen=True)
class _Comparable:
    """Settings that are compared and hashed by their text."""

    text: str
    settings: dict = field(compare=False)


@functools.lru_cache(maxsize=64)
def _facts_of(key: _Comparable, scope: str | None, size: tuple[int, int] | None) -> BackboneFacts:
    name, network = name_of(key.settings), _without_values(key.settings, scope)
    normalization, classes = _normalization(network, name), getattr(network, 'num_classes', None)
    if hasattr(network, 'mixer_name'):
        # The unified networks: their tests compare `dims` with their maps.
        if classes is not None:
            return BackboneFacts((classes,), None, normalization, classes)
        indices = network.out_indices
        channels, strides = ([values[i] for i in indices] for values in (network.dims, STRIDES))
    else:
        output, used = _run(network, key.settings, scope, size)
        if isinstance(output, Tensor) and output.ndim == 2:
            return BackboneFacts((output.shape[1],), None, normalization, classes)
        channels, strides = _measured(output, used, name)
    return BackboneFacts(tuple(channels), tuple(strides), normalization, classes)


def _normalization(network: nn.Module, name: str) -> dict[str, list[float]] | None:
    """Return the `normalization` of a network.

    Raises:
        UserError: it is invalid.
    """
    try:
        return normalization_of(network, name)
    except BackboneError as error:
        raise UserError(f'{PLACE}: {error}') from error


def _without_values(settings: Mapping, scope: str | None) -> nn.Module:
    """Build a backbone on the `meta` device, or on the CPU if its constructor computes with values.

    Raises:
        UserError: it cannot be built.
    """
    try:
        network = build_without_values(settings, scope, PLACE)
    except UserError as error:
        if _is_of_user(settings) and error.__cause__:
            raise _not_built(settings, error.__cause__) from error.__cause__
        raise
    except (NotImplementedError, RuntimeError, SystemExit):
        try:
            network = _with_values(settings, scope)
        except (Exception, SystemExit) as error:
            if not _is_of_user(settings):
                raise
            raise _not_built(settings, error) from error
    if not isinstance(network, nn.Module):
        raise UserError(f'{PLACE}: {name_of(settings)} is not a torch.nn.Module; give a network')
    return network


def _is_of_user(settings: Mapping) -> bool:
    """Return whether a backbone is a class by path, outside of the suite and its libraries."""
    top, dot, _ = str(settings.get('type')).partition('.')
    return bool(dot) and top not in TRUSTED


def _not_built(settings: Mapping, error: BaseException) -> UserError:
    reason = ' '.join(f'{type(error).__name__}: {error}'.split())
    return UserError(f'{PLACE}: {name_of(settings)} cannot be built: {reason} ({place_of(error)})')


def _with_values(settings: Mapping, scope: str | None) -> nn.Module:
    with seeded(0), DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(copy.deepcopy(dict(settings)))


def _run(
    network: nn.Module, settings: Mapping, scope: str | None, size: tuple[int, int] | None
) -> tuple[Any, tuple[int, int]]:
    """Run a backbone without values, or with values if that fails; return its output and image size.

    Raises:
        UnknownMapsError: it runs on neither of the sizes.
    """
    sizes = [SIZE, *([size] if size else [])]
    errors = []
    for candidate in (network, None):
        for height, width in sizes:
            try:
                module = candidate or _with_values(settings, scope)
                device = next((p.device for p in module.parameters()), torch.device('cpu'))
                module.eval()
                with torch.no_grad():
                    return module(torch.zeros(1, 3, height, width, device=device)), (height, width)
            except Exception as error:  # Networks reject images in many ways.
                errors.append(error)
    error = errors[len(sizes)]
    reason = ' '.join(f'{type(error).__name__}: {error}'.split())
    raise UnknownMapsError(
        f'{name_of(settings)} does not run on an image of {SIZE[0]}x{SIZE[1]} (height x width): '
        f'{reason} ({place_of(error)}); correct it, or give a network that takes images of any size'
    ) from error


def place_of(error: BaseException) -> str:
    """Return the last line of code outside of PyTorch that an error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if f'{os.sep}torch{os.sep}' not in frame.filename]
    return f'{outside[-1].filename}, line {outside[-1].lineno}'


def _measured(output: Any, size: tuple[int, int], name: str) -> tuple[list[int], list[int]]:
    """Return channels and strides of the maps that a network returns.

    Args:
        output: what it returns for one image.
        size: height and width of the image.
        name: name of the network in messages.

    Raises:
        UnknownMapsError: the output is not a tuple or list of maps (B, C, H, W).
    """
    start, wanted = f'{PLACE}: {name} returns', 'return a tuple of maps (B, C, H, W), one per stride'
    if isinstance(output, Tensor):
        raise UnknownMapsError(f'{start} one map of shape {list(output.shape)}; {wanted}')
    if not isinstance(output, (tuple, list)) or not output:
        raise UnknownMapsError(f'{start} {_kind(output)}; {wanted}')
    channels, strides = [], []
    for number, value in enumerate(output):
        if not isinstance(value, Tensor) or value.ndim != 4:
            what = f'shape {list(value.shape)}' if isinstance(value, Tensor) else _kind(value)
            raise UnknownMapsError(f'{start} {what} as output {number}; {wanted}')
        stride = _stride(size, tuple(value.shape[2:]))
        if stride is None:
            if _stride(size, tuple(value.shape[1:3])) is not None:
                raise UnknownMapsError(
                    f'{start} maps with the channels last, such as {list(value.shape)} for an image of '
                    f'{size[0]}x{size[1]}; permute them to (B, C, H, W)'
                )
            raise UnknownMapsError(
                f'{start} a map of {value.shape[2]}x{value.shape[3]} for an image of '
                f'{size[0]}x{size[1]} (height x width), which has no single stride; {wanted}'
            )
        channels.append(value.shape[1])
        strides.append(stride)
    return channels, strides


def _kind(value: object) -> str:
    article = 'an' if type(value).__name__[0].lower() in 'aeiou' else 'a'
    return 'nothing' if value is None else f'{article} {type(value).__name__}'


def _stride(size: tuple[int, int], of_map: tuple[int, int]) -> int | None:
    """Return the number that the sides of an image are divided by in a map; None if there is none.

    Sides may be rounded up or down.
    """
    if 0 in of_map:
        return None
    stride = max(1, round(size[0] / of_map[0]))
    fits = all(
        side // stride <= own <= -(-side // stride) for side, own in zip(size, of_map, strict=True)
    )
    return stride if fits else None
