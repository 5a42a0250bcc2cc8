"""Load weights into a detector, segmentor or classifier, or a part of one, with a report."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, PretrainedInit, is_model_wrapper, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from backbones import BackboneError
from backbones.checkpoint import (
    LoadReport,
    compare,
    fit_weights,
    in_own_names,
    read_checkpoint,
    select_prefix,
    translate_state_dict,
    weights_of,
)
from evaluation.models.starting_weights import PRETRAINED

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


@WEIGHT_INITIALIZERS.register_module(name=[PRETRAINED, 'ReportedPretrained'], force=True)
class ReportedPretrained(PretrainedInit):
    """Load a checkpoint into a module, and log a report. Replaces mmengine's initializer of this name.

    Args:
        checkpoint: path or URL.
        prefix: where the module lies in the checkpoint, such as `neck.`; None finds a `backbone.`.
        map_location: not used; weights are read into the CPU's memory.
        key: entry of the checkpoint that holds the weights; see `weights_of`.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str = 'cpu',
        key: str | None = None,
    ) -> None:
        super().__init__(checkpoint, prefix, map_location)
        self.key = key

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint.

        Raises:
            BackboneError: the file cannot be read, or nothing in it fits.
        """
        fitting, report = fit_part(module, self.checkpoint, self.prefix, self.key)
        module.load_state_dict({**module.state_dict(), **fitting})
        print_log(f'{self.checkpoint}, into {type(module).__name__}: {report}', logger='current')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


def fit_part(
    module: nn.Module, source: str, prefix: str | None = None, key: str | None = None
) -> tuple[Mapping[str, Tensor], LoadReport | ModelLoadReport]:
    """Select the weights of a checkpoint that a model or a part of one can take.

    Args:
        module: a model with a `backbone`, or a part of it.
        source: path or URL.
        prefix: see `ReportedPretrained`.
        key: see `weights_of`.

    Raises:
        BackboneError: the file cannot be read, nothing in it fits, or less than 90 % of the backbone of
            a whole model.
    """
    weights = weights_of(read_checkpoint(source), source, key)
    is_model = isinstance(getattr(module, 'backbone', None), nn.Module)
    if prefix is not None or not is_model:
        weights = select_prefix(weights, prefix, source)
    if is_model:
        return fit_model(module, weights, source)
    own = module.state_dict()
    weights = in_own_names(weights, own)
    if hasattr(module, 'mixer_name'):
        translate_state_dict(module, weights, '')
    report = compare(own, weights)
    if not report.loaded:
        first = next(iter(weights))
        raise BackboneError(
            f'checkpoint {source} has nothing that fits the {type(module).__name__}, whose init_cfg '
            f'names it (it has {first}, for example); give init_cfg.prefix, or another checkpoint'
        )
    return {name: weights[name] for name in report.loaded}, report
