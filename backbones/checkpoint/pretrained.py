"""Weights into a backbone or classifier, with a report, or not at all."""

from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor, nn

from backbones.checkpoint.checkpoint_files import read_checkpoint
from backbones.checkpoint.load_report import LoadReport, compare, some
from backbones.checkpoint.scales import describe
from backbones.checkpoint.state_dicts import select_prefix, weights_of
from backbones.checkpoint.translation import translate_state_dict
from backbones.checkpoint.wrappers import in_own_names
from backbones.errors import BackboneError

SMALLEST_SHARE = 0.9


def load_pretrained(
    module: nn.Module, source: str, prefix: str | None = None, key: str | None = None
) -> LoadReport:
    """Load a checkpoint into a backbone or classifier and log what became of it.

    Args:
        module: a `UnifiedBackbone`, a `UnifiedClassifier`, or a network whose names the file has.
        source: path or URL.
        prefix: where the backbone lies in the checkpoint, such as `backbone.`; None finds it.
        key: entry of the checkpoint that holds the weights; see `weights_of`.

    Raises:
        BackboneError: the file cannot be read, or less than 90 % of its or the model's parameters fit.
    """
    weights = weights_of(read_checkpoint(source), source, key)
    fitting, report = fit_weights(module, select_prefix(weights, prefix, source), source)
    module.load_state_dict({**module.state_dict(), **fitting})
    print_log(f'{source}: {report}', logger='current')
    return report


def fit_weights(
    module: nn.Module, weights: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], LoadReport]:
    """Those of `weights` that a backbone or classifier can take, in its own names and shapes.

    Raises:
        BackboneError: less than 90 % of the file's or the model's parameters fit; the message names
            `source`, and the mixer and scale that would fit.
    """
    own = module.state_dict()
    translated = in_own_names(weights, own)
    if hasattr(module, 'mixer_name'):
        translate_state_dict(module, translated, '')
    report = compare(own, translated)
    if report.share < SMALLEST_SHARE:
        raise BackboneError(_refusal(own, weights, report, source))
    return {name: translated[name] for name in report.loaded}, report


def _refusal(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], report: LoadReport, source: str
) -> str:
    wanted, given = describe(own), describe(weights)
    reason = (
        f'checkpoint {source}: only {report.share:.1%} of the parameters fit this backbone, '
        f'{wanted or "which is none of the suite"}'
    )
    if given and given != wanted:
        return f'{reason}; they are of {given}: take a config of {given}'
    wrong = some(report.mismatched or report.missing or report.unexpected, 2)
    return f'{reason} ({wrong}); take the config of the mixer and scale that it was trained with'
