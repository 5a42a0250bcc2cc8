"""Layer-wise learning rate decay for fine-tuning (Clark et al., arXiv 2003.10555)."""

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from backbones.errors import BackboneError

BACKBONE = 'backbone.'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """mmengine's default constructor with one more option in `paramwise_cfg`: `layer_decay_rate`.

    With `layer_decay_rate=r`, the learning rate of layer l of the backbone's n layers is multiplied by
    r ** (n - l). The backbone's `layer_of` maps a parameter to its layer; neck and heads belong to the
    last layer.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add a parameter group for each parameter of `module`; the arguments are mmengine's.

        Raises:
            BackboneError: the rate is outside (0, 1], or the backbone has no `layer_of`.
        """
        super().add_params(params, module, prefix, is_dcn_module)
        rate = self.paramwise_cfg.get('layer_decay_rate')
        # mmengine calls this for every submodule; the outermost call returns last, with all groups.
        if rate is None or prefix:
            return
        if not 0 < rate <= 1:
            raise BackboneError(f'layer_decay_rate={rate}: choose a number above 0 and at most 1')
        factors = layer_factors(module, rate)
        for group in params:
            (parameter,) = group['params']
            group['lr'] = group.get('lr', self.base_lr) * factors[id(parameter)]


def layer_factors(model: nn.Module, rate: float) -> dict[int, float]:
    """Return the learning rate factor of every parameter, keyed by its `id()`.

    Args:
        model: model with a `backbone`.
        rate: factor between one layer and the layer before it.

    Raises:
        BackboneError: the backbone has no `layer_of`.
    """
    backbone = getattr(model, 'backbone', None)
    if not hasattr(backbone, 'layer_of'):
        raise BackboneError(
            f'layer_decay_rate: {type(backbone).__name__} has no layer_of(name) that returns the layer '
            'of a parameter; remove layer_decay_rate'
        )
    last = backbone.num_layers
    return {
        id(parameter): rate ** (last - backbone.layer_of(name.removeprefix(BACKBONE)))
        if name.startswith(BACKBONE)
        else 1.0
        for name, parameter in model.named_parameters()
    }
