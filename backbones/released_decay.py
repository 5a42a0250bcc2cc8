"""Weight decay as in the released training code, which depends on a parameter's name or shape."""

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from backbones.checkpoint.names import released_weights
from backbones.errors import BackboneError
from backbones.layer_decay import BACKBONE, LayerDecayConstructor
from backbones.unified import UnifiedClassifier

# A dense model does not decay a parameter whose released name contains one of these.
EXEMPT_NAMES = ('norm', 'absolute_pos_embed', 'relative_position_bias_table')
# In classifiers the shape decides; this name is exempt too.
EXEMPT_NAME_OF_CLASSIFIERS = 'relative_position_bias_table'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ReleasedDecayConstructor(LayerDecayConstructor):
    """Decay the same parameters as the released training code; overrides decay in `paramwise_cfg`.

    Source: github.com/OpenGVLab/STM-Evaluation, `mask_rcnn_meta.py` and `optim_factory.py`. Other
    options in `paramwise_cfg`, such as `layer_decay_rate`, keep their meaning.

    Raises:
        BackboneError: the optimizer has no `weight_decay`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # With an empty `paramwise_cfg`, mmengine would put all parameters into one group.
        super().__init__(optim_wrapper_cfg, {'custom_keys': {}, **(paramwise_cfg or {})})
        if self.base_wd is None:
            raise BackboneError(
                'optim_wrapper.optimizer.weight_decay is missing; set it for ReleasedDecayConstructor'
            )

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add a parameter group for each parameter of `module`; the arguments are mmengine's."""
        super().add_params(params, module, prefix, is_dcn_module)
        # mmengine calls this for every submodule; the outermost call returns last.
        if prefix:
            return
        exempt = exempt_parameters(module)
        for group in params:
            (parameter,) = group['params']
            group['weight_decay'] = 0.0 if id(parameter) in exempt else self.base_wd
            group.pop('decay_mult', None)


def exempt_parameters(model: nn.Module) -> set[int]:
    """Return the `id()` of every parameter that the released training code does not decay.

    In dense models the name decides (`EXEMPT_NAMES`), so they decay the norms of stem and downsampling,
    the relative positions of halo and the position embeddings of pvt. A classifier exempts biases and
    parameters with one axis, so it decays the layer scales of halo and convnext, which have four axes.

    Args:
        model: a detector, segmentor or classifier. Only a unified backbone has released names; other
            parameters are matched by their own names.
    """
    backbone = getattr(model, 'backbone', None)
    mixer = getattr(backbone, 'mixer_name', None)
    is_classifier = isinstance(backbone, UnifiedClassifier)
    exempt = set()
    for name, parameter in model.named_parameters():
        released, value = name, parameter.detach()
        if mixer and name.startswith(BACKBONE):
            ((released, value),) = released_weights({name.removeprefix(BACKBONE): value}, mixer).items()
        if is_exempt(released, value.ndim, is_classifier):
            exempt.add(id(parameter))
    return exempt


def is_exempt(name: str, axes: int, is_classifier: bool) -> bool:
    """Return whether weight decay skips a parameter with this released name and number of axes."""
    if is_classifier:
        return axes == 1 or name.endswith('.bias') or EXEMPT_NAME_OF_CLASSIFIERS in name
    return any(part in name for part in EXEMPT_NAMES)
