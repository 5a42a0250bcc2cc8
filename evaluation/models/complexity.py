"""Parameters and FLOPs of a detector, segmentor or classifier by its parts, without data or weights.

The model is built on the `meta` device, whose tensors have shapes and no values. Backbone, neck and
heads run one after another, the heads of a detector on as many regions as the field counts, so that
nothing depends on what an image holds.
"""

import re
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import nn

from backbones import BackboneError
from evaluation.models.heads import BOX_REGIONS, MASK_REGIONS, run_parts, standard_size
from evaluation.models.operator_flops import count_flops
from evaluation.utils.errors import UserError
from evaluation.utils.meta_device import build_without_values
from evaluation.utils.random_state import seeded

CONVENTION = (
    'FLOPs of one image: a multiply-add counts once, and only products that are summed count '
    '(convolutions, matrix products, attention, sampling at learnt offsets); box head on '
    f'{BOX_REGIONS} regions, mask head on {MASK_REGIONS}, without auxiliary head, RoIAlign and NMS. '
    'Published figures that fvcore or mmengine counted include the norms.'
)

AUXILIARY_HEAD = 'auxiliary head'

# Qualified name of a module or parameter, the part that it belongs to, and what to add to the number in
# the name for that of the stage, counted from 1. The first that fits counts.
_PARTS = (
    (r'backbone\.(?:stem|patch_embed|conv1|bn1|downsample_layers\.0)\b', 'stem', None),
    (r'backbone\.(?:stages|out_norms|stage_norms|downsample_layers)\.(\d+)', 'stage', 1),
    (r'backbone\.downsamples\.(\d+)', 'stage', 2),
    (r'backbone\.norm(\d+)', 'stage', 1),
    (r'backbone\.layer(\d+)', 'stage', 0),
    (r'backbone\.(?:conv_head|head)\b', 'classification head', None),
    (r'backbone\b', 'backbone (other)', None),
    (r'neck\b', 'neck', None),
    (r'rpn_head\b', 'RPN head', None),
    (r'roi_head\.shared_head\b', 'shared head', None),
    (r'(?:roi_head\.)?bbox_head\b', 'box head', None),
    (r'roi_head\.mask_head\b', 'mask head', None),
    (r'decode_head\b', 'decode head', None),
    (r'auxiliary_head\b', AUXILIARY_HEAD, None),
)
OTHER = 'other'


@dataclass(frozen=True)
class Part:
    """Parameters, frozen ones too, and multiply-adds of a part; None for a part that is not run."""

    name: str
    parameters: int
    flops: int | None


@dataclass(frozen=True)
class Complexity:
    """What a model costs on one image.

    Attributes:
        height, width: of the image, in pixels.
        parts: in the order of the network.
        uncounted_operators: operators whose FLOPs are unknown and missing from the figures.
        norm_flops: operations of norms, which are not in the FLOPs of parts.
    """

    height: int
    width: int
    parts: tuple[Part, ...]
    uncounted_operators: tuple[str, ...]
    norm_flops: int

    @property
    def parameters(self) -> int:
        """All parameters, those of an auxiliary head too."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        """All multiply-adds, without norms."""
        return sum(part.flops or 0 for part in self.parts)

    @property
    def flops_with_norms(self) -> int:
        """FLOPs as fvcore and mmengine state them."""
        return self.flops + self.norm_flops

    def as_json(self) -> dict:
        """All figures as they stand in files, with the convention that FLOPs follow."""
        return {
            'flops': self.flops,
            'norm_flops': self.norm_flops,
            'flops_with_norms': self.flops_with_norms,
            'parameters': self.parameters,
            'height': self.height,
            'width': self.width,
            'parts': [asdict(part) for part in self.parts],
            'uncounted_operators': list(self.uncounted_operators),
            'convention': CONVENTION,
        }


def complexity_of_config(
    model: Mapping, scope: str | None, size: tuple[int, int] | None = None
) -> Complexity:
    """Parameters and FLOPs of a model that is not built yet; random states stay as they are.

    Args:
        model: config of the model; not changed.
        scope: `default_scope` of the whole config, whose registry names the parts: `mmdet` or `mmseg`.
        size: height and width of the image; None for the one that publications use.

    Raises:
        UserError: the model cannot be built, is of a kind whose parts cannot be run by themselves, or
            does not run on this size.
    """
    with seeded(0):
        return complexity(build_without_values(model, scope), size)


def complexity(model: nn.Module, size: tuple[int, int] | None = None) -> Complexity:
    """Parameters and FLOPs of a model, which is set to eval mode.

    Args:
        model: a detector, an encoder-decoder or a classifier, on any device.
        size: height and width of the image; None for the one that publications use.

    Raises:
        UserError: the model is of another kind, or does not run on this size.
    """
    height, width = size or standard_size(model)
    if min(height, width) < 1:
        raise UserError(f'image of {height}x{width} (height x width): both must be at least 1 pixel')
    device = next(model.parameters()).device
    image = torch.empty(1, 3, height, width, device=device)
    try:
        with torch.no_grad(), count_flops(model.eval()) as counter:
            run_parts(model, image)
    except (BackboneError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f'the model does not run on an image of {height}x{width} (height x width): '
            f'{_module_that_raised(error, model)}: {reason}'
        ) from error
    return Complexity(
        height,
        width,
        _parts(model, counter.by_module()),
        tuple(sorted(counter.uncounted)),
        counter.norms.total(),
    )


def part_of(name: str) -> str:
    """Part that a module or parameter belongs to, by its qualified name: `stage 2`, `neck`."""
    for pattern, part, first in _PARTS:
        if match := re.match(pattern, name):
            return part if first is None else f'{part} {int(match[1]) + first}'
    # A part of another architecture, such as `encoder`, under its own name.
    return name.partition('.')[0].replace('_', ' ') or OTHER


def _parts(model: nn.Module, flops_by_module: Mapping[str, int]) -> tuple[Part, ...]:
    """Sum up by part, in the order of the network."""
    parameters, flops = Counter(), Counter()
    for name, parameter in model.named_parameters():
        parameters[part_of(name)] += parameter.numel()
    for name, value in flops_by_module.items():
        flops[part_of(name)] += value
    return tuple(
        Part(name, parameters[name], None if name == AUXILIARY_HEAD else flops[name])
        for name in sorted(parameters.keys() | flops.keys(), key=_place)
    )


def _place(part: str) -> tuple[int, str]:
    """Place of a part in the network; parts of other architectures come last, by name."""
    kinds = [kind for _, kind, _ in _PARTS]
    places = (place for place, kind in enumerate(kinds) if part.startswith(kind))
    return next(places, len(kinds)), part


def _module_that_raised(error: Exception, model: nn.Module) -> str:
    """Qualified name of the innermost module whose code the error came through."""
    names = {id(module): name for name, module in model.named_modules()}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    owners = [names.get(id(frame.f_locals.get('self'))) for frame in frames]
    return next((name for name in reversed(owners) if name), type(model).__name__)
