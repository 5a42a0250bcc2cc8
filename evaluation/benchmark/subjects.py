"""Timed subjects from configs, backbones or whole models, with their parameters and FLOPs."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from backbones import BackboneError
from evaluation.benchmark.passes import Size
from evaluation.models.complexity import build_without_values, complexity
from evaluation.models.heads import BOX_REGIONS, MASK_REGIONS, run_parts, standard_size
from evaluation.models.operator_flops import count_flops
from evaluation.utils.errors import UserError
from evaluation.utils.random_state import seeded

WHOLE_MODELS = (
    f'whole models: backbone, neck and heads; the box head on {BOX_REGIONS} regions of an image, the '
    f'mask head on {MASK_REGIONS}, without auxiliary head, RoIAlign and NMS, so that nothing depends on '
    'what an image holds'
)
BACKBONES = 'backbones alone'


@dataclass(frozen=True)
class Cost:
    """Parameters and FLOPs of a subject.

    Attributes:
        parameters: all, frozen ones too.
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


def without_values(module: nn.Module) -> nn.Module:
    """Return a copy on the `meta` device, which needs no memory for parameters and buffers."""
    tensors = chain(module.parameters(), module.buffers())
    return copy.deepcopy(module, {id(tensor): _on_meta(tensor) for tensor in tensors})


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    meta = tensor.detach().to('meta')
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(meta, requires_grad=tensor.requires_grad)
    return meta


class TimedSubject(Protocol):
    """A row of the table.

    Attributes:
        name: of the row.
        note: a caveat about its figures, known once its cost is counted; None if there is none.
    """

    name: str
    note: str | None

    def cost(self, size: Size) -> Cost:
        """Count parameters and FLOPs.

        Raises:
            UserError: it does not take images of this size.
        """

    def build(self, size: Size) -> nn.Module:
        """Build a network with random weights on the CPU, for images of this size."""

    def part_to_compile(self, module: nn.Module) -> nn.Module:
        """Return the backbone of a network from `build`."""


class WholeModel(nn.Module):
    """A detector or segmentor whose forward runs backbone, neck and heads by `run_parts`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list:
        """Run images, (B, 3, H, W); return the output of each head."""
        return run_parts(self.model, images)


class ConfigSubject:
    """The backbone or the whole model of a config.

    Args:
        name: of the row.
        model: config of the model; not changed.
        scope: `default_scope` of the whole config: `mmdet` or `mmseg`.
        backbone_alone: leave out neck and heads.

    Raises:
        UserError: the model cannot be built, or is of a kind without the parts that are run.
    """

    note: str | None = None

    def __init__(self, name: str, model: Mapping, scope: str | None, backbone_alone: bool) -> None:
        self.name = name
        self._model = model
        self._scope = scope
        self._backbone_alone = backbone_alone
        with seeded(0):
            self._without_values = build_without_values(model, scope)
        if backbone_alone and not isinstance(getattr(self._without_values, 'backbone', None), nn.Module):
            raise UserError('the model has no backbone; leave out --backbone')
        if not backbone_alone:
            standard_size(self._without_values)

    def standard_shape(self) -> tuple[int, int]:
        """Return the height and width for which publications state FLOPs.

        Raises:
            UserError: this kind of model has no such size.
        """
        return standard_size(self._without_values)

    def cost(self, size: Size) -> Cost:
        """Count parameters and FLOPs.

        Raises:
            UserError: it does not take images of this size.
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
        UserError: the sizes differ, so that times would not be comparable.
    """
    shapes = {subject.standard_shape(): subject.name for subject in subjects}
    if len(shapes) > 1:
        which = ', '.join(f'{height}x{width} for {name}' for (height, width), name in shapes.items())
        raise UserError(
            f'the standard sizes differ ({which}; height x width), and times of different sizes are not '
            'compared; give one with --shape HEIGHT WIDTH'
        )
    return next(iter(shapes))
