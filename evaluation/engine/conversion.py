"""Extract the backbone's weights from a checkpoint of any origin."""

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from backbones import BackboneError
from backbones.checkpoint import (
    DERIVED,
    WEIGHT_KEYS,
    LoadReport,
    fit_weights,
    read_checkpoint,
    recognize,
    released_weights,
    select_prefix,
    weights_of,
)
from evaluation.engine.experiment import read_config
from evaluation.results.description import REPOSITORY

# Norms on the trunk: they belong to the classifier and, if a dense model enables them, to its backbone.
TRUNK_NORMS = 'stage_norms.'


@dataclass(frozen=True)
class Conversion:
    """A backbone's weights, and a description of the rest of the checkpoint.

    Attributes:
        mixer: mixer of the backbone.
        weights: tensors, with the suite's names and shapes.
        report: how the weights fit the backbone.
        left_out: descriptions of the parts of the checkpoint that are not in `weights`.
    """

    mixer: str
    weights: dict[str, Tensor]
    report: LoadReport
    left_out: list[str]


def convert(source: str, config: str | None = None, key: str | None = None) -> Conversion:
    """Extract the backbone's weights from a checkpoint.

    Args:
        source: path or URL of the checkpoint.
        config: config file of its backbone; None recognizes a published scale.
        key: entry that holds the weights; see `weights_of`.

    Raises:
        BackboneError: the checkpoint cannot be read, its backbone is unknown, or it does not fit.
        UserError: the config cannot be read.
    """
    content = read_checkpoint(source)
    everything = weights_of(content, source, key)
    weights = select_prefix(everything, None, source)
    backbone = MODELS.build({**_backbone_of(weights, source, config), 'init_cfg': None})
    fitting, report = fit_weights(backbone, weights, source)
    trunk_norms = {n: v for n, v in weights.items() if n.startswith(TRUNK_NORMS)}
    outside = everything if any(n.startswith('backbone.') for n in everything) else {}
    left_out = [
        *_entries(content, key),
        *_parts({n: v for n, v in outside.items() if not n.startswith('backbone.')}),
        *_parts({n: v for n, v in weights.items() if _is_of_the_head(n)}),
        *_derived(weights),
    ]
    return Conversion(backbone.mixer_name, {**fitting, **trunk_norms}, report, left_out)


def file_content(conversion: Conversion, file: Path, released_names: bool) -> bytes:
    """Return the content of a weights file, in the format of the suite or of the released checkpoints.

    Args:
        conversion: the weights.
        file: path of the file; only its suffix matters, `.pth` or `.safetensors`.
        released_names: use the names and shapes of the released checkpoints.
    """
    weights = conversion.weights
    if released_names:
        weights = released_weights(weights, conversion.mixer)
    # Copy each tensor: a view would be saved with its whole storage.
    weights = {name: value.detach().clone().contiguous() for name, value in weights.items()}
    if file.suffix == '.safetensors':
        return safetensors.torch.save(weights, {'format': 'pt'})
    buffer = io.BytesIO()
    torch.save({'model' if released_names else 'state_dict': weights}, buffer)
    return buffer.getvalue()


def _backbone_of(weights: Mapping[str, Tensor], source: str, config: str | None) -> Mapping:
    """Return the backbone settings, from a config or from the published scale that fits the weights."""
    if config:
        return read_config(config).model.backbone
    variant = recognize(weights)
    if variant is None:
        raise BackboneError(
            f'checkpoint {source} matches no published mixer and scale; give its config with --config'
        )
    mixer = variant.partition('_')[0]
    return Config.fromfile(REPOSITORY / f'configs/_base_/backbones/{mixer}.py')[variant]


def _is_of_the_head(name: str) -> bool:
    return name.startswith(('conv_head.', 'head.'))


def _entries(content: Mapping, key: str | None) -> list[str]:
    """Describe the entries other than the weights; none if the file is a plain state dict."""
    present = [name for name in WEIGHT_KEYS if isinstance(content.get(name), Mapping)]
    chosen = key or next(iter(present), None)
    return [f'{name}: not part of the weights' for name in content if name != chosen] if chosen else []


def _parts(weights: Mapping[str, Tensor]) -> list[str]:
    """Describe the number of tensors and parameters by the first part of their names."""
    tensors, parameters = Counter(), Counter()
    for name, value in weights.items():
        part = name.split('.')[0]
        tensors[part] += 1
        parameters[part] += value.numel()
    return [f'{part}: {tensors[part]} tensors, {parameters[part]:,} parameters' for part in tensors]


def _derived(weights: Mapping[str, Tensor]) -> list[str]:
    found = Counter(name.rsplit('.', 1)[-1] for name in weights)
    return [
        f'{name}: {found[name]} tensors, computed from the geometry' for name in DERIVED if found[name]
    ]
