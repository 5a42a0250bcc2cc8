"""Translate the names of published weights to those of timm."""

import re
import sys
from collections.abc import Mapping

from torch import Tensor, nn

# EfficientNet-PyTorch (github.com/lukemelas/EfficientNet-PyTorch), and its relatives for the lite
# networks, number all blocks in one list.
_EFFICIENTNET_MARK = '_conv_stem.weight'
_EFFICIENTNET_TRUNK = {
    '_conv_stem': 'conv_stem',
    '_bn0': 'bn1',
    '_conv_head': 'conv_head',
    '_bn1': 'bn2',
    '_fc': 'classifier',
}
_EFFICIENTNET_BLOCK = {
    '_expand_conv': 'conv_pw',
    '_bn0': 'bn1',
    '_depthwise_conv': 'conv_dw',
    '_bn1': 'bn2',
    '_se_reduce': 'se.conv_reduce',
    '_se_expand': 'se.conv_expand',
    '_project_conv': 'conv_pwl',
    '_bn2': 'bn3',
}
# Blocks without expansion, which timm names differently.
_SEPARABLE_BLOCK = {
    '_depthwise_conv': 'conv_dw',
    '_bn1': 'bn1',
    '_se_reduce': 'se.conv_reduce',
    '_se_expand': 'se.conv_expand',
    '_project_conv': 'conv_pw',
    '_bn2': 'bn2',
}


def in_timm_names(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return weights in the names and shapes of a network of timm, as far as a translation is known.

    timm translates the names of the original releases itself, and resizes position embeddings and
    tables; each of its modules has a function for this.

    Args:
        weights: weights of the network or of its trunk, in any published names.
        network: network of timm.
    """
    weights = from_efficientnet_pytorch(weights, network)
    if _fits(weights, network):
        return weights
    translate = getattr(sys.modules[type(network).__module__], 'checkpoint_filter_fn', None)
    if translate is None:
        return weights
    try:
        return dict(translate(dict(weights), network))
    # Weights of a different network fail in many ways; the check that follows names the differences.
    except Exception:
        return weights


def from_efficientnet_pytorch(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Translate the names of EfficientNet-PyTorch; return other weights unchanged."""
    if _EFFICIENTNET_MARK not in weights:
        return dict(weights)
    expanded = {
        match[1] for name in weights if (match := re.match(r'_blocks\.(\d+)\._expand_conv\.', name))
    }
    # The network stores its blocks by stage.
    names = dict.fromkeys(
        match[0] for name in network.state_dict() if (match := re.match(r'blocks\.\d+\.\d+\.', name))
    )
    blocks = dict(enumerate(names))

    def translate(name: str) -> str:
        match = re.fullmatch(r'_blocks\.(\d+)\.(\w+)\.(.+)', name)
        if not match:
            layer, _, rest = name.partition('.')
            return f'{_EFFICIENTNET_TRUNK.get(layer, layer)}.{rest}'
        number, layer, rest = match.groups()
        layers = _EFFICIENTNET_BLOCK if number in expanded else _SEPARABLE_BLOCK
        return f'{blocks.get(int(number), f"blocks.{number}.")}{layers.get(layer, layer)}.{rest}'

    return {translate(name): value for name, value in weights.items()}


def _fits(weights: Mapping[str, Tensor], network: nn.Module) -> bool:
    """Return whether every weight of a network is among `weights`, with its shape."""
    return all(
        name in weights and weights[name].shape == value.shape
        for name, value in network.state_dict().items()
    )
