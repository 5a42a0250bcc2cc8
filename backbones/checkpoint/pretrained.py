"""Load pretrained weights into a backbone or classifier, with a report."""

from collections.abc import Mapping

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from backbones.checkpoint.checkpoint_files import read_checkpoint
from backbones.checkpoint.load_report import ABSENT, UNUSED, LoadReport, compare, some
from backbones.checkpoint.scales import describe
from backbones.checkpoint.state_dicts import select_prefix, weights_of
from backbones.checkpoint.wrappers import in_own_names
from backbones.errors import BackboneError

SMALLEST_SHARE = 0.9


def load_pretrained(
    module: nn.Module, source: str, prefix: str | None = None, key: str | None = None
) -> LoadReport:
    """Load a checkpoint into a backbone or classifier and log a report.

    Args:
        module: a `UnifiedBackbone`, a `UnifiedClassifier`, or any network with the file's names.
        source: path or URL.
        prefix: prefix of the backbone in the checkpoint, such as `backbone.`; None detects it.
        key: entry of the checkpoint that contains the weights; see `weights_of`.

    Raises:
        BackboneError: the file cannot be read, less than 90% of its or the model's parameters fit, or
            loading changes nothing.
    """
    weights = weights_of(read_checkpoint(source), source, key)
    fitting, report = fit_weights(module, select_prefix(weights, prefix, source), source)
    load_fitting(module, fitting, source)
    print_log(f'{source}: {report}', logger='current')
    return report


def load_fitting(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights that fit a module, and check that the module then has them.

    Args:
        module: any module; one with its own `load_state_dict` or `state_dict` may do anything.
        weights: weights in its names and shapes.
        source: path or URL, for messages.

    Raises:
        BackboneError: the module does not have their values, or had them all before.
    """
    before = {name: value.clone() for name, value in module.state_dict().items() if name in weights}
    module.load_state_dict({**module.state_dict(), **weights})
    after, network = module.state_dict(), type(module).__name__
    lost = [name for name, value in weights.items() if not _holds(after.get(name), value)]
    if lost:
        raise BackboneError(
            f'checkpoint {source}: {network}.load_state_dict did not set {some(lost, 2)}; '
            'remove the method from the class, or correct it'
        )
    if weights and all(_holds(before.get(name), value) for name, value in weights.items()):
        raise BackboneError(
            f'checkpoint {source} changed no weight of {network}, which had all of its values before; '
            'omit it, or give the checkpoint of a training'
        )


def _holds(own: Tensor | None, value: Tensor) -> bool:
    """Return whether a tensor of a module has the values that were loaded, in its own data type."""
    return own is not None and torch.equal(own, value.to(own.device, own.dtype))


def fit_weights(
    module: nn.Module, weights: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], LoadReport]:
    """Return the `weights` that fit a backbone or classifier, in its own names and shapes.

    Raises:
        BackboneError: less than 90% of the file's or the model's parameters fit; the message names
            `source`, and the mixer and scale of the weights if known.
    """
    own = module.state_dict()
    translated = in_module_names(module, weights)
    unused = getattr(module, 'unused_weights', UNUSED)
    absent = getattr(module, 'absent_weights', ABSENT)
    report = compare(own, translated, unused, absent)
    if report.share < SMALLEST_SHARE:
        raise BackboneError(_refusal(module, weights, report, source))
    return {name: translated[name] for name in report.loaded}, report


def in_module_names(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in the names of a module, which may know translations from published names."""
    found = in_own_names(weights, module.state_dict())
    return module.translated(found) if hasattr(module, 'translated') else found


def _refusal(module: nn.Module, weights: Mapping[str, Tensor], report: LoadReport, source: str) -> str:
    wanted, given = describe(module.state_dict()), describe(weights)
    reason = f'checkpoint {source}: only {report.share:.1%} of the parameters fit'
    wrong = some(report.mismatched or report.missing or report.unexpected, 2)
    if wanted is None:
        name = getattr(module, 'display_name', type(module).__name__)
        if given:
            return f'{reason} {name}; the weights are for {given}; give weights of this network'
        return f'{reason} {name}: {wrong}; give weights of this network'
    reason += f' this backbone ({wanted})'
    if given and given != wanted:
        return f'{reason}; the weights are for {given}, so use a config of {given}'
    return f'{reason}: {wrong}; use the config of the mixer and scale that it was trained with'
