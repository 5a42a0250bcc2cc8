"""Timed subjects: models of the suite, and backbones of timm for comparison."""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import timm
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from backbones import BackboneError
from evaluation.benchmark.passes import Size
from evaluation.models.complexity import complexity
from evaluation.models.heads import BOX_REGIONS, MASK_REGIONS, run_parts, standard_size
from evaluation.models.operator_flops import count_flops
from evaluation.utils.errors import UserError, did_you_mean
from evaluation.utils.meta_device import build_without_values, parameters_without_values, without_values
from evaluation.utils.random_state import seeded

WHOLE_MODELS = (
    f'whole models: backbone, neck and heads; the box head on {BOX_REGIONS} regions per image, the '
    f'mask head on {MASK_REGIONS}, without auxiliary head, RoIAlign and NMS, so that image content does '
    'not matter'
)
BACKBONES = 'backbones alone'
PREFIX = 'timm:'
# Some networks need image sides that are multiples of these: strides, or strides times window sizes.
MULTIPLES = (4, 8, 14, 16, 28, 32, 56, 64, 112, 128, 224, 256)
TRUNK = {'num_classes': 0}
FEATURES = {'features_only': True}


@dataclass(frozen=True)
class Cost:
    """Parameters and FLOPs of a subject.

    Attributes:
        parameters: number of all parameters, including frozen ones.
        flops: multiply-adds of the forward pass over one image.
        uncounted_operators: operators that are missing from `flops`.
    """

    parameters: int
    flops: int
    uncounted_operators: tuple[str, ...]


def count_cost(module: nn.Module, height: int, width: int) -> Cost:
    """Count parameters and FLOPs of a module on one image; the module is not changed."""
    module = without_values(module).eval()
    with torch.no_grad(), count_flops(module) as counter:
        module(torch.empty(1, 3, height, width, device='meta'))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Cost(parameters, counter.total, tuple(sorted(counter.uncounted)))


class TimedSubject(Protocol):
    """A row of the table.

    Attributes:
        name: name of the row.
        note: caveat about its figures, known once its cost is counted; None if there is none.
        experiment: names of the recipe and the contestant whose results the times belong to; None if
            there are none.
    """

    name: str
    note: str | None
    experiment: Mapping[str, str] | None

    def cost(self, size: Size) -> Cost:
        """Count parameters and FLOPs.

        Raises:
            UserError: the subject does not accept images of this size.
        """

    def build(self, size: Size) -> nn.Module:
        """Build a network with random weights on the CPU, for images of this size."""

    def part_to_compile(self, module: nn.Module) -> nn.Module:
        """Return the backbone of a network from `build`."""


class WholeModel(nn.Module):
    """A detector or segmentor whose forward runs backbone, neck and heads with `run_parts`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list:
        """Run images, (B, 3, H, W); return the output of each head."""
        return run_parts(self.model, images)


class ConfigSubject:
    """The backbone or the whole model of a config.

    Args:
        name: name of the row.
        model: config of the model; not modified.
        scope: `default_scope` of the whole config: `mmdet` or `mmseg`.
        backbone_alone: omit neck and heads.
        size: height and width of the image for which its recipe states FLOPs; None for the task's.
        experiment: names of its recipe and contestant, with keys `recipe` and `contestant`.

    Raises:
        UserError: the model cannot be built, or lacks the parts that are run.
    """

    note: str | None = None

    def __init__(
        self,
        name: str,
        model: Mapping,
        scope: str | None,
        backbone_alone: bool,
        size: tuple[int, int] | None = None,
        experiment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.experiment = experiment
        self._size = size
        self._model = model
        self._scope = scope
        self._backbone_alone = backbone_alone
        with seeded(0):
            self._without_values = build_without_values(model, scope)
        if backbone_alone and not isinstance(getattr(self._without_values, 'backbone', None), nn.Module):
            raise UserError('the model has no backbone; omit --alone')
        if not backbone_alone:
            standard_size(self._without_values)

    def standard_shape(self) -> tuple[int, int]:
        """Return the height and width for which papers state FLOPs.

        Raises:
            UserError: this kind of model has no such size.
        """
        return self._size or standard_size(self._without_values)

    def cost(self, size: Size) -> Cost:
        """Count parameters and FLOPs.

        Raises:
            UserError: the model does not accept images of this size.
        """
        try:
            if self._backbone_alone:
                return count_cost(self._without_values.backbone, size.height, size.width)
            found = complexity(self._without_values, (size.height, size.width))
        except (BackboneError, RuntimeError, UserError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f'{self.name} does not run on {size}: {reason}') from error
        return Cost(found.parameters, found.flops, found.uncounted_operators)

    def build(self, size: Size) -> nn.Module:
        """Build a network with random weights on the CPU, for images of any size."""
        config = copy.deepcopy(self._model.backbone if self._backbone_alone else self._model)
        with seeded(0), DefaultScope.overwrite_default_scope(self._scope):
            module = MODELS.build(config)
        return module if self._backbone_alone else WholeModel(module)

    def part_to_compile(self, module: nn.Module) -> nn.Module:
        """Return the backbone of a network from `build`."""
        return module if self._backbone_alone else module.model.backbone


def row_names(configs: Sequence[str]) -> list[str]:
    """Return a name for each config file: its stem, or its path if another file has the same stem."""
    stems = Counter(Path(config).stem for config in {*configs})
    return [Path(config).stem if stems[Path(config).stem] == 1 else config for config in configs]


def common_shape(subjects: Sequence[ConfigSubject]) -> tuple[int, int]:
    """Return the standard size that all subjects share.

    Raises:
        UserError: the sizes differ, so times would not be comparable.
    """
    shapes = {subject.standard_shape(): subject.name for subject in subjects}
    if len(shapes) > 1:
        which = ', '.join(f'{height}x{width} for {name}' for (height, width), name in shapes.items())
        raise UserError(
            f'the standard sizes differ ({which}; height x width), so times would not be comparable; '
            'give one size with --shape HEIGHT WIDTH'
        )
    return next(iter(shapes))


class PeerSubject:
    """A network of timm without its classifier, with feature maps if timm offers them.

    Args:
        name: `timm:` and the name of a timm model, such as `timm:swin_tiny_patch4_window7_224`.

    Raises:
        UserError: timm has no such model; the message names similar ones.
    """

    experiment = None

    def __init__(self, name: str) -> None:
        self.name = name
        self._architecture = architecture_of(name)
        self._found_by_shape: dict[tuple[int, int], tuple[Cost, dict]] = {}

    def cost(self, size: Size) -> Cost:
        """Count parameters and FLOPs.

        Raises:
            UserError: the network does not accept this size; the message names one that works.
        """
        return self._found(size)[0]

    @property
    def note(self) -> str | None:
        """Note on a trunk without feature maps, known once its cost is counted."""
        if all('features_only' in options for _, options in self._found_by_shape.values()):
            return None
        return 'timm offers no feature maps for it; only its trunk, without the classifier, is timed'

    def build(self, size: Size) -> nn.Module:
        """Build a network with random weights on the CPU, for images of this size.

        Raises:
            UserError: the network does not accept this size; the message names one that works.
        """
        return self._create(self._found(size)[1])

    def part_to_compile(self, module: nn.Module) -> nn.Module:
        """Return the whole network."""
        return module

    def _found(self, size: Size) -> tuple[Cost, dict]:
        """Return cost and options for a size, cached."""
        shape = size.height, size.width
        if shape not in self._found_by_shape:
            self._found_by_shape[shape] = self._find(*shape)
        return self._found_by_shape[shape]

    def _find(self, height: int, width: int) -> tuple[Cost, dict]:
        """Find cost and options for a size.

        Raises:
            UserError: no options work.
        """
        found, reason = self._try(height, width)
        if found:
            return found
        raise UserError(
            f'{self.name} does not accept {height}x{width} (height x width){reason}; '
            f'{self._what_it_takes(height, width)}'
        )

    def _what_it_takes(self, height: int, width: int) -> str:
        for multiple in MULTIPLES:
            rounded = [-(-side // multiple) * multiple for side in (height, width)]
            if rounded != [height, width] and self._try(*rounded)[0]:
                return f'use {rounded[0]}x{rounded[1]}, the next multiples of {multiple}'
        return f'the next multiples of numbers up to {MULTIPLES[-1]} do not work either; remove it'

    def _try(self, height: int, width: int) -> tuple[tuple[Cost, dict] | None, str]:
        """Return cost and options for a size, or None and the reason in timm's words.

        The first options that build a network decide. Architectures reject sizes with many kinds of
        exceptions, so any exception counts as a rejection.
        """
        reason = ''
        for options in _ways(height, width):
            try:
                with parameters_without_values():
                    module = self._create(options)
            except Exception as error:
                reason = reason or _reason(error)
                continue
            try:
                return (count_cost(module, height, width), options), ''
            except Exception as error:
                return None, _reason(error) or reason
        return None, reason

    def _create(self, options: dict) -> nn.Module:
        with seeded(0):
            return timm.create_model(self._architecture, pretrained=False, **options)


def architecture_of(name: str) -> str:
    """Return the name of a peer in timm.

    Raises:
        UserError: the name does not have the form `timm:NAME`, or timm does not know it.
    """
    prefix, _, architecture = name.partition(':')
    if f'{prefix}:' != PREFIX or not architecture:
        raise UserError(f'peer {name!r} must have the form {PREFIX}NAME, such as timm:convnext_tiny')
    # Names with the tag of pretrained weights are valid too; the weights are not loaded.
    names = timm.list_pretrained() if '.' in architecture else timm.list_models()
    if architecture not in names:
        near = did_you_mean(architecture, names)
        raise UserError(f'peer {name}: timm has no such model{near}')
    return architecture


def _ways(height: int, width: int) -> Iterator[dict]:
    """Yield build options, the best first; networks with a fixed input size need it."""
    for what in (FEATURES, TRUNK):
        yield {**what, 'img_size': (height, width)}
        yield what


def _reason(error: Exception) -> str:
    """Return a colon and the first line of an error; '' if it is about an unknown option."""
    words = str(error).strip()
    if not words or 'unexpected keyword' in words:
        return ''
    return f': {words.splitlines()[0].rstrip(".")}'
