"""Networks of timm as classifiers, and the loading of their weights."""

from collections.abc import Mapping
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from backbones.loadable import LoadableModule
from backbones.timm import networks
from backbones.timm.names import in_timm_names

NETWORK = 'network.'


class TimmModule(LoadableModule):
    """A network of timm, and the loading of its weights.

    Attributes:
        network: the network.
        display_name: its name in messages.
    """

    family = 'timm'

    def __init__(self, model_name: str, init_cfg: dict | None) -> None:
        super().__init__(init_cfg)
        self.model_name = model_name
        self.display_name = f'timm:{model_name}'

    @property
    def normalization(self) -> dict[str, list[float]] | None:
        """Mean and standard deviation, as the published weights expect them.

        A dict with `mean` and `std` per channel in RGB order, for values from 0 to 255; None if unknown.
        """
        settings = networks.pretrained_settings(self.network)
        if not settings.get('mean') or not settings.get('std'):
            return None
        return {name: [round(255 * value, 6) for value in settings[name]] for name in ('mean', 'std')}

    def released_weights(self) -> str:
        """Return the path or URL of timm's weights for this network.

        Raises:
            BackboneError: timm has no weights for this name.
        """
        settings = networks.pretrained_settings(self.network)
        return networks.released_weights(self.model_name, settings)

    def translated(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights in this module's names, from those of timm or of original releases."""
        own = {name for name in self.state_dict() if name.startswith(NETWORK)}
        if own <= weights.keys():
            return dict(weights)
        beside = {name: v for name, v in weights.items() if name in self.state_dict()}
        bare = {name.removeprefix(NETWORK): v for name, v in weights.items()}
        found = in_timm_names(bare, self.network)
        return {**{NETWORK + name: value for name, value in found.items()}, **beside}


@MODELS.register_module()
class TimmClassifier(TimmModule):
    """A network of timm as a classifier.

    Args:
        model_name, options, drop_path_rate, with_cp, init_cfg: as in `TimmBackbone`.
        num_classes: number of classes.
    """

    def __init__(
        self,
        model_name: str,
        options: Mapping[str, Any] | None = None,
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(model_name, init_cfg)
        options = {'num_classes': num_classes, **(options or {})}
        if drop_path_rate:
            options['drop_path_rate'] = drop_path_rate
        self.network = networks.create(model_name, options)
        self.num_classes = num_classes
        if with_cp:
            self.network.set_grad_checkpointing(True)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, 3, H, W) -> (B, num_classes)."""
        return self.network(x)
