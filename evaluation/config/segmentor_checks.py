"""Check the heads and test settings of a segmentor before anything is built from them."""

import inspect
import warnings
from collections.abc import Iterator, Sequence

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope

from evaluation.config.settings import built_settings, registered
from evaluation.utils.errors import UserError

# Ignored label in maps, transforms, losses and the metric.
IGNORED = 255
# Other segmentors of mmseg, for depth or for text and image, have different settings.
SEGMENTORS = ('EncoderDecoder', 'CascadeEncoderDecoder')
MODES = ('whole', 'slide')
DOUBLE_SIGMOID = 'SegTTAModel'


def check_segmentation(cfg: Config) -> None:
    """Check settings that mmseg would reject only at the first step or the first validation.

    Raises:
        UserError: a setting is missing or inconsistent with others.
    """
    if type_name(cfg.model) not in SEGMENTORS:
        return
    check_ignored_labels(cfg)
    for place, head in heads_of(cfg.model):
        check_channels_of_head(place, head)
    check_test_mode(cfg.model)
    check_binary_augmentation(cfg)


def type_name(settings: ConfigDict) -> str:
    """Return the class name in some settings, without its scope."""
    kind = settings.get('type') or ''
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def heads_of(model: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """Yield each head with one channel per class (any `BaseDecodeHead`), after its place."""
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name)
        places = enumerate(heads) if isinstance(heads, (list, tuple)) else [(None, heads)]
        for index, head in places:
            if isinstance(head, dict) and 'num_classes' in head and has_channels_of_classes(head):
                yield f'model.{name}' if index is None else f'model.{name}.{index}', head


def has_channels_of_classes(head: ConfigDict) -> bool:
    """Return whether a head is a `BaseDecodeHead` of mmseg; others may have one channel per query."""
    kinds = [kind for _, kind in registered(head.get('type'), 'mmseg') if inspect.isclass(kind)]
    # Compare names, because importing mmseg would take every command seconds.
    return any(base.__name__ == 'BaseDecodeHead' for kind in kinds for base in kind.__mro__)


def check_ignored_labels(cfg: Config) -> None:
    """Check that all parts ignore the label that the metric ignores.

    Raises:
        UserError: a part ignores a different label, or pads maps with a label that is not ignored.
    """
    ignored = IGNORED
    for settings in built_settings(cfg):
        # mmseg's metric has a setting for the label.
        if settings.place.startswith(('val_evaluator', 'test_evaluator')):
            ignored = settings.content.get('ignore_index', ignored)
    for settings in built_settings(cfg):
        for name in ('ignore_index', 'seg_pad_val'):
            value = settings.content.get(name, ignored)
            # None is fine in a loss: the head passes it the ignored label.
            if value not in (ignored, None) and (name, value) != ('seg_pad_val', IGNORED):
                raise UserError(
                    f'{settings.place}.{name}={value}, but maps and metric only ignore {ignored}; give '
                    f'{settings.place}.{name}={ignored}, and use {ignored} for all ignored pixels of '
                    'maps'
                )


def check_channels_of_head(place: str, head: ConfigDict) -> None:
    """Check that a head has one channel per class, or one and a threshold for two classes.

    Raises:
        UserError: the number of channels or class weights is wrong, or the loss or threshold does not
            work with one channel.
    """
    classes = head.get('num_classes')
    channels = head.get('out_channels') or classes
    if not isinstance(classes, int) or not isinstance(channels, int):
        raise UserError(
            f'{place}.num_classes={classes!r} and out_channels={channels!r}: give whole numbers'
        )
    if classes < 2:
        raise UserError(
            f'{place}.num_classes={classes}: segmentation needs at least two classes; give two classes '
            f'(num_classes=2 and two names in metainfo.classes), with {place}.out_channels=1 for one '
            'channel and a threshold'
        )
    if channels != classes and (channels, classes) != (1, 2):
        raise UserError(
            f'{place}.out_channels={channels} with num_classes={classes}; give {classes}, or 1 with two '
            'classes'
        )
    if channels != 1:
        return
    threshold = head.get('threshold')
    is_number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if threshold is not None and not (is_number and 0 < threshold < 1):
        raise UserError(
            f'{place}.threshold={threshold}: it must be a probability; give a number between 0 and 1'
        )
    check_binary_losses(place, head)
    check_class_weights(place, head, channels)


def check_all_class_weights(cfg: Config) -> None:
    """Check class weights in all heads, after the classes have been checked against the data.

    Raises:
        UserError: a loss does not have one weight per channel of its head.
    """
    if type_name(cfg.model) not in SEGMENTORS:
        return
    for place, head in heads_of(cfg.model):
        check_class_weights(place, head, head.get('out_channels') or head.num_classes)


def check_class_weights(place: str, head: ConfigDict, channels: int) -> None:
    """Check that losses with class weights have one weight per channel.

    Raises:
        UserError: the number of weights is wrong.
    """
    for settings in losses_of(head):
        weights = settings.get('class_weight')
        # The weights may also be the path of a file.
        if isinstance(weights, (list, tuple)) and len(weights) != channels:
            raise UserError(
                f'{place}.loss_decode.class_weight has {len(weights)} numbers for {channels} channels; '
                'give one number per channel, or class_weight=None'
            )


def losses_of(head: ConfigDict) -> Sequence[ConfigDict]:
    """Return the settings of the one or more losses of a decode head."""
    wanted = head.get('loss_decode') or ConfigDict(type='CrossEntropyLoss')
    return wanted if isinstance(wanted, (list, tuple)) else [wanted]


def check_binary_losses(place: str, head: ConfigDict) -> None:
    """Try each loss of a one-channel head: a correct map must cost less than its opposite.

    Raises:
        UserError: it does not, or the loss cannot be computed.
    """
    if head.get('sampler'):
        raise UserError(f'{place}.sampler needs one channel per class; remove {place}.out_channels')
    for settings in losses_of(head):
        unweighted = ConfigDict({k: v for k, v in settings.items() if k != 'class_weight'})
        if not costs_of_truth_are_lower(unweighted):
            raise UserError(
                f'{place}.loss_decode: {settings.get("type")} with these settings cannot train '
                f'out_channels=1; give CrossEntropyLoss with use_sigmoid=True, or remove '
                f'{place}.out_channels'
            )


def costs_of_truth_are_lower(settings: ConfigDict) -> bool:
    """Return whether a loss of mmseg is lower for a correct one-channel map than for its opposite."""
    labels = torch.tensor([[[0, 0, 1, 1], [0, 1, 0, 1]]])
    right = 8.0 * (2 * labels[:, None] - 1)
    with warnings.catch_warnings(), DefaultScope.overwrite_default_scope('mmseg'):
        warnings.simplefilter('ignore')
        try:
            loss = MODELS.build(ConfigDict(settings))
            costs = [
                loss(logits, labels, weight=None, ignore_index=IGNORED) for logits in (right, -right)
            ]
        # Unsuitable losses raise all kinds of errors.
        except Exception:
            return False
    return bool(costs[0] < costs[1])


def check_test_mode(model: ConfigDict) -> None:
    """Check the test mode: whole images or sliding windows.

    Raises:
        UserError: the mode is unknown, or the windows have no valid size, or a stride that leaves gaps.
    """
    settings = model.get('test_cfg') or {}
    mode = settings.get('mode')
    if mode not in MODES:
        raise UserError(
            f"model.test_cfg.mode={mode!r}: give 'whole', or 'slide' with crop_size and stride"
        )
    if mode == 'whole':
        return
    for name in ('crop_size', 'stride'):
        value = settings.get(name)
        is_pair = isinstance(value, (list, tuple)) and len(value) == 2
        if not is_pair or not all(type(side) is int and side > 0 for side in value):
            raise UserError(
                f"model.test_cfg.mode='slide' with {name}={value}; give height and width in pixels, "
                'such as model.test_cfg.crop_size=512,512 model.test_cfg.stride=341,341'
            )
    if any(step > side for step, side in zip(settings.stride, settings.crop_size, strict=True)):
        raise UserError(
            f'model.test_cfg.stride={list(settings.stride)} is larger than its '
            f'crop_size={list(settings.crop_size)}, which leaves gaps; give a smaller stride'
        )


def check_binary_augmentation(cfg: Config) -> None:
    """Check that test-time augmentation supports a one-channel head.

    Raises:
        UserError: it would apply the sigmoid twice.
    """
    head = cfg.model.get('decode_head')
    model = cfg.get('tta_model') or {}
    is_binary = isinstance(head, dict) and head.get('out_channels') == 1
    if is_binary and type_name(model) == DOUBLE_SIGMOID:
        raise UserError(
            f'tta_model.type={DOUBLE_SIGMOID} applies the sigmoid twice if decode_head.out_channels=1, '
            'so every pixel passes the threshold; give tta_model.type=SegmentationTTAModel'
        )
