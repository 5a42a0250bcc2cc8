"""Weights into a whole detector, segmentor or classifier, with a report by part."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from backbones import BackboneError
from backbones.checkpoint import LoadReport, compare, fit_weights, in_own_names

BACKBONE = 'backbone.'
BACKBONE_ALONE = {'': 'the file holds a backbone alone, the rest starts anew'}


@dataclass
class ModelLoadReport:
    """What became of a checkpoint of a whole model.

    Attributes:
        backbone: of the parameters under `backbone.`.
        rest: of neck and heads.
    """

    backbone: LoadReport
    rest: LoadReport

    def __str__(self) -> str:
        return f'backbone: {self.backbone}\n  neck and heads: {self.rest}'


def fit_model(
    model: nn.Module, weights: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], ModelLoadReport]:
    """Those of `weights` that a model can take, in its own names and shapes.

    Args:
        model: with a `backbone`.
        weights: of a whole model, or of a backbone or classifier alone.
        source: where they come from, for messages.

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
    """Check that a checkpoint has every weight of a model, and none of another.

    Raises:
        BackboneError: it has not; the message says how many and names one.
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
            (mismatched, 'of another shape'),
            ([] if mismatched else missing, 'missing'),
            (left_over, 'left over'),
        )
        if names
    ]
    if not wrong:
        return
    if report.rest.expected:
        raise BackboneError(
            f'checkpoint {source} holds a backbone alone, of which {report.backbone.share:.1%} fits; '
            f'{wrong[0]}: give a checkpoint of the whole {type(model).__name__}'
        )
    raise BackboneError(
        f'checkpoint {source} does not fit this {type(model).__name__}: {"; ".join(wrong)}; '
        'take the config that it was trained with'
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The detector or segmentor inside wrappers for several processes and for augmentation."""
    model = model.module if is_model_wrapper(model) else model
    return model.module if isinstance(model, BaseTTAModel) else model


def count(number: int, noun: str) -> str:
    """`1 weight`, `2 weights`."""
    return f'{number} {noun}' + ('' if number == 1 else 's')
