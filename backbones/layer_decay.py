"""Learning rates that fall from head to stem, for fine-tuning (Clark et al., arXiv 2003.10555)."""

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from backbones.errors import BackboneError

BACKBONE = 'backbone.'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with one more entry of `paramwise_cfg`.

    With `layer_decay_rate=r`, parameters of layer l of the backbone's n layers learn at r ** (n - l) of
    the rate that they would have. Which layer a parameter is of, the backbone itself says by
    `layer_of`; neck and heads are of the last.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add a group for each parameter of `module`; the arguments are mmengine's.

        Raises:
            BackboneError: the rate is not from 0 to 1, or the backbone does not know its layers.
        """
        super().add_params(params, module, prefix, is_dcn_module)
        rate = self.paramwise_cfg.get('layer_decay_rate')
        # mmengine calls this for every module within; all groups are there when the outermost returns.
        if rate is None or prefix:
            return
        if not 0 < rate <= 1:
            raise BackboneError(f'layer_decay_rate={rate}: choose from more than 0 to 1')
        factors = layer_factors(module, rate)
        for group in params:
            (parameter,) = group['params']
            group['lr'] = group.get('lr', self.base_lr) * factors[id(parameter)]


def layer_factors(model: nn.Module, rate: float) -> dict[int, float]:
    """Factor of the learning rate of every parameter, by its identity.

    Args:
        model: with a `backbone`.
        rate: from one layer to the one before.

    Raises:
        BackboneError: the backbone does not know its layers.
    """
    backbone = getattr(model, 'backbone', None)
    if not hasattr(backbone, 'layer_of'):
        raise BackboneError(
            f'layer_decay_rate: {type(backbone).__name__} has no layer_of(name) to say the layer '
            'of a parameter; leave layer_decay_rate out'
        )
    last = backbone.num_layers
    return {
        id(parameter): rate ** (last - backbone.layer_of(name.removeprefix(BACKBONE)))
        if name.startswith(BACKBONE)
        else 1.0
        for name, parameter in model.named_parameters()
    }
