"""`init_cfg` of type `Pretrained`, with a report of what was loaded."""

from collections.abc import Mapping

from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from backbones import BackboneError
from backbones.checkpoint import (
    LoadReport,
    compare,
    in_own_names,
    read_checkpoint,
    select_prefix,
    translate_state_dict,
    weights_of,
)
from evaluation.models.starting_weights import PRETRAINED
from evaluation.models.weights import ModelLoadReport, fit_model


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
