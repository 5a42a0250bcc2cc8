"""What is timed: the backbone or the whole model of a config."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from backbones import BackboneError
from evaluation.benchmark.cost import Cost, count_cost
from evaluation.benchmark.sizes import Size
from evaluation.models.complexity import build_without_values, complexity
from evaluation.models.heads import BOX_REGIONS, MASK_REGIONS, run_parts, standard_size
from evaluation.utils.errors import UserError
from evaluation.utils.random_state import seeded

WHOLE_MODELS = (
    f'whole models: backbone, neck and heads; the box head on {BOX_REGIONS} regions of an image, the '
    f'mask head on {MASK_REGIONS}, without auxiliary head, RoIAlign and NMS, so that nothing depends on '
    'what an image holds'
)
BACKBONES = 'backbones alone'


class Subject(Protocol):
    """A row of the table.

    Attributes:
        name: what the row is called.
        note: what a reader of its figures must know, once its cost is counted; None for nothing.
    """

    name: str
    note: str | None

    def cost(self, size: Size) -> Cost:
        """Parameters and FLOPs.

        Raises:
            UserError: it does not take images of this size.
        """

    def build(self, size: Size) -> nn.Module:
        """A network with random weights on the CPU, for images of this size."""

    def part_to_compile(self, module: nn.Module) -> nn.Module:
        """The backbone in what `build` returned."""


class WholeModel(nn.Module):
    """A detector or segmentor whose forward runs backbone, neck and heads by `run_parts`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list:
        """(B, 3, H, W) to what each head returns."""
        return run_parts(self.model, images)


class ConfigSubject:
    """The backbone or the whole model of a config.

    Args:
        name: what the row is called.
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
        """Height and width that publications state FLOPs for.

        Raises:
            UserError: the model is of a kind without such a size.
        """
        return standard_size(self._without_values)

    def cost(self, size: Size) -> Cost:
        """Parameters and FLOPs.

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
        """A network with random weights on the CPU; it takes images of any size."""
        config = copy.deepcopy(self._model.backbone if self._backbone_alone else self._model)
        with seeded(0), DefaultScope.overwrite_default_scope(self._scope):
            module = MODELS.build(config)
        return module if self._backbone_alone else WholeModel(module)

    def part_to_compile(self, module: nn.Module) -> nn.Module:
        """The backbone in what `build` returned."""
        return module if self._backbone_alone else module.model.backbone


def row_names(configs: Sequence[str]) -> list[str]:
    """A name for each config file: its stem, or its path where another file has the same stem."""
    stems = Counter(Path(config).stem for config in {*configs})
    return [Path(config).stem if stems[Path(config).stem] == 1 else config for config in configs]


def common_shape(subjects: Sequence[ConfigSubject]) -> tuple[int, int]:
    """The standard size that all subjects share.

    Raises:
        UserError: they have different ones, so that their times could not be compared.
    """
    shapes = {subject.standard_shape(): subject.name for subject in subjects}
    if len(shapes) > 1:
        which = ', '.join(f'{height}x{width} for {name}' for (height, width), name in shapes.items())
        raise UserError(
            f'the standard sizes differ ({which}; height x width), and times of different sizes are not '
            'compared; give one with --shape HEIGHT WIDTH'
        )
    return next(iter(shapes))
