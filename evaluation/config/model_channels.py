"""Channels of neck and heads, and normalization of images, from the backbone of a config."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmengine.config import Config, ConfigDict

from backbones.maps import NORMALIZATION, STRIDES
from evaluation.config.backbone_maps import (
    PLACE,
    BackboneFacts,
    UnknownMapsError,
    check_settings,
    facts_of,
    name_of,
)
from evaluation.config.segmentor_checks import has_channels_of_classes
from evaluation.config.settings import keywords_of
from evaluation.utils.errors import UserError, warn
from evaluation.utils.process_groups import note

# Differences between the statistics of ImageNet as different libraries round them.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Taker:
    """A neck or head that takes maps of the backbone.

    Attributes:
        place: place in the config, such as `model.neck`.
        settings: its settings.
        index: maps that it takes; None for all.
    """

    place: str
    settings: dict
    index: int | tuple[int, ...] | None

    @property
    def channels(self) -> int | list[int] | None:
        """`in_channels` of the config; None if it is missing."""
        given = self.settings.get('in_channels')
        return list(given) if isinstance(given, Sequence) else given

    @property
    def is_reversed(self) -> bool:
        """Whether it states the channels from the last map to the first, as YOLOv3's neck does."""
        given = self.channels
        return isinstance(given, list) and given != sorted(given) == given[::-1]

    def taken(self, channels: Sequence[int]) -> int | list[int]:
        """Return the channels of its maps, in the form of `in_channels`.

        Raises:
            UserError: the backbone returns fewer maps.
        """
        try:
            if self.index is None:
                return list(channels)[::-1] if self.is_reversed else list(channels)
            if isinstance(self.index, int):
                return channels[self.index]
            return [channels[index] for index in self.index]
        except IndexError:
            raise UserError(
                f'{self.place}.in_index={self.index!r}, but {PLACE} returns {len(channels)} maps; '
                'give a backbone that returns more'
            ) from None


def complete_model(cfg: Config, is_replaced: bool, options: Mapping[str, object] = {}) -> None:
    """Fill in the `in_channels` that neck and heads lack, and apply a new backbone's normalization.

    Args:
        cfg: a config; changed.
        is_replaced: whether the backbone was replaced, so that `in_channels` and the normalization
            of the config belong to a different one.
        options: overrides of the command line, by dotted keys, which are kept.

    Raises:
        UserError: the backbone is invalid, or neck and heads cannot take its maps.
    """
    model = cfg.get('model') or {}
    if not isinstance(model.get('backbone'), dict):
        return
    takers = list(takers_of(model))
    lacking = [taker for taker in takers if taker.channels is None and _needs_channels(taker, cfg)]
    if not is_replaced and not lacking:
        return
    check_settings(model.backbone, cfg.get('default_scope'))
    if is_replaced and not takers and not _is_classifier(model):
        raise UserError(
            f'--backbone: no neck or decode head of config {cfg.filename} takes the maps of the '
            'backbone; give the config of a detector with a neck, a segmentor or a classifier'
        )
    facts = facts_of(model.backbone, cfg.get('default_scope'), crop_of(model))
    if _is_classifier(model):
        _check_logits(model, facts)
    elif is_replaced:
        _check_maps(takers, facts, cfg)
    for taker in takers if is_replaced else lacking:
        if not _is_given(options, taker.place, 'in_channels'):
            taker.settings['in_channels'] = taker.taken(facts.channels)
    if is_replaced and facts.normalization:
        _normalize(model, facts.normalization, options)


def check_channels(cfg: Config) -> None:
    """Check that neck and heads expect the channels of the backbone, and images its normalization.

    Raises:
        UserError: an option of the backbone is misspelled, missing or wrong, or the channels differ.
    """
    model, scope = cfg.model, cfg.default_scope
    # Building it would download weights.
    if model.backbone.get('pretrained') or model.backbone.get('checkpoint_path'):
        return
    stated = [
        taker
        for taker in takers_of(model)
        if isinstance(taker.channels, list) or taker.index is not None
    ]
    try:
        facts = facts_of(model.backbone, scope, crop_of(model))
    except UnknownMapsError as error:
        if stated:
            warn(f'in_channels of neck and heads cannot be checked: {error}')
        return
    for taker in stated:
        channels = taker.taken(facts.channels)
        if taker.channels not in (None, channels):
            raise UserError(
                f'{taker.place}.in_channels={taker.channels}, but the maps of {PLACE} have {channels} '
                f'channels; give {taker.place}.in_channels={channels}'
            )
    warn_of_normalization(model, facts)


def warn_of_normalization(model: ConfigDict, facts: BackboneFacts) -> None:
    """Warn if images are normalized differently from what the weights of the backbone expect."""
    own, wanted = model.get('data_preprocessor') or {}, facts.normalization
    if wanted and any(own.get(key) and not _is_close(own[key], wanted[key]) for key in NORMALIZATION):
        given, expected = (
            ' '.join(f'{key}={list(side[key])}' for key in NORMALIZATION) for side in (own, wanted)
        )
        warn(f'model.data_preprocessor has {given}, but the weights of {PLACE} expect {expected}')


# Neck and heads


def takers_of(model: Mapping) -> Iterator[Taker]:
    """Yield the parts of a model that take maps of the backbone: the neck, otherwise decode heads."""
    neck = model.get('neck')
    if neck:
        is_list = isinstance(neck, (list, tuple))
        yield Taker('model.neck.0' if is_list else 'model.neck', neck[0] if is_list else neck, None)
        return
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name)
        is_list = isinstance(heads, (list, tuple))
        for number, head in enumerate(heads if is_list else [heads]):
            if isinstance(head, dict):
                place = f'model.{name}.{number}' if is_list else f'model.{name}'
                yield Taker(place, head, _index_of(head))


def _index_of(head: Mapping) -> int | tuple[int, ...] | None:
    """Return `in_index` of a head; if it is missing, the last map for a `BaseDecodeHead` of mmseg."""
    index = head.get('in_index')
    if index is None:
        takes_all = isinstance(head.get('in_channels'), Sequence) or not has_channels_of_classes(head)
        return None if takes_all else -1
    return index if isinstance(index, int) else tuple(index)


def _needs_channels(taker: Taker, cfg: Config) -> bool:
    known = keywords_of(taker.settings, taker.place, cfg.get('default_scope'))
    return known is not None and 'in_channels' in known.names


def _check_maps(takers: Sequence[Taker], facts: BackboneFacts, cfg: Config) -> None:
    """Check that neck and heads can take the maps of a new backbone.

    Raises:
        UserError: the strides are wrong, or a part takes a different number of maps.
    """
    count, name = len(facts.channels), name_of(cfg.model.backbone)
    if facts.strides is None:
        raise UserError(
            f'--backbone: {name} returns logits, but this config takes maps at the strides 4 to 32; '
            'give a network without its classifier'
        )
    if facts.strides != STRIDES[len(STRIDES) - count :]:
        strides = ', '.join(map(str, facts.strides))
        raise UserError(
            f'--backbone: {name} returns maps at strides {strides}; return one '
            f'map at each of the strides {", ".join(map(str, STRIDES))}'
        )
    for taker in takers:
        kind = taker.settings.get('type')
        if not _needs_channels(taker, cfg):
            raise UserError(
                f'--backbone: {taker.place} ({kind}) has no in_channels, so it cannot take a different '
                'backbone; use a config with another neck or head'
            )
        expected = 1 if isinstance(taker.channels, int) else len(taker.channels or facts.channels)
        if taker.index is None and expected != count:
            raise UserError(
                f'--backbone: {taker.place} ({kind}) takes {expected} of the maps at strides 4 to 32, '
                f'but {name} returns {count}; give it an option such as '
                f'out_indices={(*range(len(STRIDES) - expected, len(STRIDES)),)}, or use another config'
            )


def _is_given(options: Mapping[str, object], place: str, key: str) -> bool:
    """Return whether the command line sets a key, by itself or within the settings of a place."""
    within = options.get(place)
    return f'{place}.{key}' in options or (isinstance(within, dict) and key in within)


def _normalize(model: ConfigDict, wanted: Mapping, options: Mapping[str, object]) -> None:
    """Normalize images as the weights of the backbone expect, unless the command line says otherwise."""
    place, own = 'model.data_preprocessor', model.get('data_preprocessor')
    if own is None or any(_is_given(options, place, key) for key in NORMALIZATION):
        return
    for key in NORMALIZATION:
        # Keep the recipe's own rounding of the same statistics.
        if not _is_close(own.get(key) or (), wanted[key]):
            own[key] = list(wanted[key])
    if not own.get('bgr_to_rgb') and not _is_given(options, place, 'bgr_to_rgb'):
        own['bgr_to_rgb'] = True
    values = ' '.join(f'{key}={list(own[key])}' for key in NORMALIZATION)
    note(f'images are normalized as the weights of {name_of(model.backbone)} expect: {values}')


def _is_close(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= ROUNDING for a, b in zip(one, other, strict=True)
    )


def crop_of(model: Mapping) -> tuple[int, int] | None:
    """Return the size that the preprocessor pads training images to; None if it states none."""
    size = (model.get('data_preprocessor') or {}).get('size')
    return tuple(size) if size else None


# Classifiers


def _is_classifier(model: Mapping) -> bool:
    return not any(name.endswith(('head', 'neck')) for name in model)


def _check_logits(model: ConfigDict, facts: BackboneFacts) -> None:
    """Check that the network of a classifier returns logits.

    Raises:
        UserError: it returns maps, or lacks the number of classes that mixup needs.
    """
    name = name_of(model.backbone)
    if facts.strides is not None:
        raise UserError(
            f'--backbone: {name} returns maps, but this config is for a classifier; return logits '
            '(B, classes)'
        )
    if facts.num_classes is None and (model.get('mixup') or model.get('cutmix')):
        raise UserError(
            f'--backbone: {name} has no attribute num_classes, which mixup and CutMix need; add it, or '
            'give model.mixup=0 model.cutmix=0'
        )
