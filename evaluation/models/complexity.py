"""Parameters and FLOPs of a detector, segmentor or classifier by part, without data or weights.

The model is built on the `meta` device, whose tensors have shapes but no values. Backbone, neck and
heads run one after another. The heads of a detector run on a fixed number of regions, the usual one in
publications, so the result does not depend on the content of an image.
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
    'FLOPs of one image: a multiply-add counts as one, and only products that are summed are counted '
    '(convolutions, matrix products, attention, sampling at learned offsets); box head on '
    f'{BOX_REGIONS} regions, mask head on {MASK_REGIONS}, without auxiliary head, RoIAlign and NMS. '
    'Published figures that were counted with fvcore or mmengine include norms.'
)

AUXILIARY_HEAD = 'auxiliary head'

# Pattern for the qualified name of a module or parameter, the part that it belongs to, and an offset
# from the number in the name to the stage, counted from 1. The first match is used.
_PARTS = (
    (r'backbone\.(?:network\.)?(?:stem|patch_embed|conv1|bn1|downsample_layers\.0)\b', 'stem', None),
    (r'backbone\.(?:network\.)?(?:stages|out_norms|stage_norms|downsample_layers)\.(\d+)', 'stage', 1),
    (r'backbone\.network\.layers\.(\d+)', 'stage', 1),
    (r'backbone\.downsamples\.(\d+)', 'stage', 2),
    (r'backbone\.norm(\d+)', 'stage', 1),
    (r'backbone\.(?:network\.)?layer(\d+)', 'stage', 0),
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
    """Number of parameters, including frozen ones, and FLOPs of a part; None if it is not run."""

    name: str
    parameters: int
    flops: int | None


@dataclass(frozen=True)
class Complexity:
    """Parameters and FLOPs of a model for one image.

    Attributes:
        height, width: size of the image, in pixels.
        parts: parts in the order of the network.
        uncounted_operators: operators whose FLOPs are unknown and not included.
        norm_flops: operations of norms, not included in the FLOPs of parts.
    """

    height: int
    width: int
    parts: tuple[Part, ...]
    uncounted_operators: tuple[str, ...]
    norm_flops: int

    @property
    def parameters(self) -> int:
        """Total number of parameters, including an auxiliary head."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        """Total number of multiply-adds, without norms."""
        return sum(part.flops or 0 for part in self.parts)

    @property
    def flops_with_norms(self) -> int:
        """Total FLOPs with norms, as in fvcore and mmengine."""
        return self.flops + self.norm_flops

    def as_json(self) -> dict:
        """Return all numbers for a JSON file, with the convention for FLOPs."""
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
    """Count parameters and FLOPs of a model from its config, without changing random states.

    Args:
        model: config of the model; not changed.
        scope: `default_scope` of the whole config, whose registry has the parts: `mmdet` or `mmseg`.
        size: height and width of the image; None for the usual size in publications.

    Raises:
        UserError: the model cannot be built, its parts cannot be run separately, or it does not run on
            this image size.
    """
    with seeded(0):
        return complexity(build_without_values(model, scope), size)


def complexity(model: nn.Module, size: tuple[int, int] | None = None) -> Complexity:
    """Count parameters and FLOPs of a model. Sets the model to eval mode.

    Args:
        model: detector, encoder-decoder or classifier, on any device.
        size: height and width of the image; None for the usual size in publications.

    Raises:
        UserError: the model is unsupported, or does not run on this image size.
    """
    height, width = size or standard_size(model)
    if min(height, width) < 1:
        raise UserError(f'image size {height}x{width} (height x width): both must be at least 1 pixel')
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
    """Return the part of a module or parameter from its qualified name, such as `stage 2` or `neck`."""
    for pattern, part, first in _PARTS:
        if match := re.match(pattern, name):
            return part if first is None else f'{part} {int(match[1]) + first}'
    # Parts of other architectures, such as `encoder`, keep their own names.
    return name.partition('.')[0].replace('_', ' ') or OTHER


def _parts(model: nn.Module, flops_by_module: Mapping[str, int]) -> tuple[Part, ...]:
    """Sum parameters and FLOPs by part, in the order of the network."""
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
    """Return a sort key: parts in the order of the network, then unknown parts by name."""
    kinds = [kind for _, kind, _ in _PARTS]
    places = (place for place, kind in enumerate(kinds) if part.startswith(kind))
    return next(places, len(kinds)), part


def _module_that_raised(error: Exception, model: nn.Module) -> str:
    """Return the qualified name of the innermost module in the traceback of an error."""
    names = {id(module): name for name, module in model.named_modules()}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    owners = [names.get(id(frame.f_locals.get('self'))) for frame in frames]
    return next((name for name in reversed(owners) if name), type(model).__name__)
