"""A checkpoint of any origin, reduced to the backbone's weights."""

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

# The norms on the trunk are the classifier's and, where a dense model is built so, the backbone's.
TRUNK_NORMS = 'stage_norms.'


@dataclass(frozen=True)
class Conversion:
    """A backbone's weights, and what else was in the checkpoint.

    Attributes:
        mixer: its mixer.
        weights: in the suite's names and shapes.
        report: how they fit the backbone.
        left_out: descriptions of what is not among the weights.
    """

    mixer: str
    weights: dict[str, Tensor]
    report: LoadReport
    left_out: list[str]


def convert(source: str, config: str | None = None, key: str | None = None) -> Conversion:
    """Take the backbone's weights out of a checkpoint.

    Args:
        source: path or URL.
        config: config file with the backbone that it is of; None recognizes a published scale.
        key: entry that holds the weights; see `weights_of`.

    Raises:
        BackboneError: it cannot be read, is of no known backbone, or does not fit.
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
    """What a file of the weights holds: as in the suite's checkpoints, or in the released ones.

    Args:
        conversion: the weights.
        file: only its suffix counts, `.pth` or `.safetensors`.
        released_names: whether names and shapes are those of the released checkpoints.
    """
    weights = conversion.weights
    if released_names:
        weights = released_weights(weights, conversion.mixer)
    # Each a copy of its own: nothing of a larger storage is written along.
    weights = {name: value.detach().clone().contiguous() for name, value in weights.items()}
    if file.suffix == '.safetensors':
        return safetensors.torch.save(weights, {'format': 'pt'})
    buffer = io.BytesIO()
    torch.save({'model' if released_names else 'state_dict': weights}, buffer)
    return buffer.getvalue()


def _backbone_of(weights: Mapping[str, Tensor], source: str, config: str | None) -> Mapping:
    """Settings of the backbone: of a config, or of the page of scales that fits the weights."""
    if config:
        return read_config(config).model.backbone
    variant = recognize(weights)
    if variant is None:
        raise BackboneError(
            f'checkpoint {source} is of no published mixer and scale; name its config with --config'
        )
    mixer = variant.partition('_')[0]
    return Config.fromfile(REPOSITORY / f'configs/_base_/backbones/{mixer}.py')[variant]


def _is_of_the_head(name: str) -> bool:
    return name.startswith(('conv_head.', 'head.'))


def _entries(content: Mapping, key: str | None) -> list[str]:
    """Entries beside the weights, unless the file is a plain state dict."""
    present = [name for name in WEIGHT_KEYS if isinstance(content.get(name), Mapping)]
    chosen = key or next(iter(present), None)
    return [f'{name}: not of the weights' for name in content if name != chosen] if chosen else []


def _parts(weights: Mapping[str, Tensor]) -> list[str]:
    """Tensors and parameters by the first part of their names."""
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
