"""Checkpoints: released names, position tables of another size, loading with a report.

The names of the released checkpoints (github.com/OpenGVLab/STM-Evaluation) are known here and nowhere
else. A mixer without an entry in `RELEASED_MIXER_NAMES` has the suite's own names only.
"""

import argparse
import math
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from numpy._core import multiarray
from safetensors.torch import load_file
from torch import Tensor, nn

from backbones.errors import BackboneError

SMALLEST_SHARE = 0.9
# Where checkpoints keep weights; the first that is there counts.
WEIGHT_KEYS = ('state_dict', 'model', 'model_ema', 'ema')

RELEASED_TRUNK_NAMES = {
    r'stem\.conv1\.': 'downsample_layers.0.stem.0.',
    r'stem\.norm1\.': 'downsample_layers.0.stem.1.',
    r'stem\.conv2\.': 'downsample_layers.0.stem.3.',
    r'stem\.norm2\.': 'downsample_layers.0.stem.4.',
    r'downsamples\.0\.': 'downsample_layers.1.',
    r'downsamples\.1\.': 'downsample_layers.2.',
    r'downsamples\.2\.': 'downsample_layers.3.',
    r'(downsample_layers\.\d\.)conv\.': r'\1reduction.0.',
    r'(downsample_layers\.\d\.)norm\.': r'\1reduction.1.',
    r'out_norms\.(\d)\.': r'out_norm_\1.',
}

_ATTENTION = {'mixer.': 'attn.'}
RELEASED_BLOCK_NAMES = {
    'layer_scale1.gamma': 'gamma_1',
    'layer_scale2.gamma': 'gamma_2',
    'pos_embed.weight': 'pos_embed',
}
RELEASED_MIXER_NAMES = {
    'halo': {
        'mixer.height_rel': 'attn.pos_embed.height_rel',
        'mixer.width_rel': 'attn.pos_embed.width_rel',
        **_ATTENTION,
    },
    'pvt': _ATTENTION,
    'swin': _ATTENTION,
    'convnext': {
        'mixer.input_proj.': 'dw_input_proj.',
        'mixer.conv.': 'dwconv.',
        'mixer.output_proj.': 'dw_out_proj.',
        'norm1.': 'dw_norm.',
        'norm2.': 'pw_norm.',
        'mlp.fc1.': 'pwconv1.',
        'mlp.fc2.': 'pwconv2.',
    },
    'dcn': {
        'layer_scale1.gamma': 'gamma1',
        'layer_scale2.gamma': 'gamma2',
        'mixer.conv.': 'attn.dw_conv.0.',
        'mixer.norm.': 'attn.dw_conv.1.norm.',
        **_ATTENTION,
    },
}

# Computed from the geometry here, stored by other implementations.
DERIVED = ('relative_position_index', 'attn_mask')

UNUSED_BY_DENSE = {
    'stage_norms.': 'the dense backbone norms its outputs, not the trunk',
    'conv_head.': 'head of the classifier',
    'head.': 'head of the classifier',
}
ABSENT_FROM_CLASSIFIER = {'out_norms.': 'output norms start anew in a dense model'}


def released_name(name: str, mixer: str) -> str:
    """What the released checkpoints call the parameter that the suite calls `name`."""
    match = re.fullmatch(r'(stages\.\d+\.\d+\.)(.+)', name)
    if not match:
        for pattern, replacement in RELEASED_TRUNK_NAMES.items():
            name = re.sub(f'^{pattern}', replacement, name)
        return name
    block, rest = match.groups()
    for own, released in {**RELEASED_BLOCK_NAMES, **RELEASED_MIXER_NAMES.get(mixer, {})}.items():
        if rest.startswith(own):
            return block + released + rest[len(own) :]
    return name


def translate_state_dict(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Load-state-dict pre-hook: rename and reshape, in place, what is under `prefix`.

    Accepts the suite's own names as they are, released names, derived buffers (dropped), and position
    tables of another size (resized).
    """
    own = module.state_dict()
    released = {released_name(name, module.mixer_name): name for name in own}
    for key in [k for k in state_dict if k.startswith(prefix)]:
        name = key[len(prefix) :]
        if name.rsplit('.', 1)[-1] in DERIVED:
            del state_dict[key]
            continue
        name = name if name in own else released.get(name, name)
        value = state_dict.pop(key)
        state_dict[prefix + name] = fit(value, name, own[name]) if name in own else value


def fit(value: Tensor, name: str, own: Tensor) -> Tensor:
    """`value` in the shape of `own` where the two mean the same, else as it is.

    Axes of length 1 are added or dropped (layer scales, 1x1 convolutions as linears). Tables of
    relative positions are resized per head, Swin's bicubic and Halo's linear (align_corners=True);
    absolute position embeddings bilinear (align_corners=True).
    """
    if value.shape == own.shape:
        return value
    if [n for n in value.shape if n != 1] == [n for n in own.shape if n != 1]:
        return value.reshape(own.shape)
    leaf = name.rsplit('.', 1)[-1]
    is_square = math.isqrt(value.shape[0]) ** 2 == value.shape[0] if value.ndim else False
    if leaf == 'relative_position_bias_table' and is_square and value.shape[1:] == own.shape[1:]:
        return _resize_bias_table(value, own.shape[0])
    if leaf in ('height_rel', 'width_rel') and value.shape[1:] == own.shape[1:]:
        table = value.float().t()[None]
        resized = F.interpolate(table, own.shape[0], mode='linear', align_corners=True)
        return resized[0].t().to(value.dtype)
    if name.endswith('pos_embed.weight') and value.shape[:2] == own.shape[:2]:
        size = own.shape[2:]
        resized = F.interpolate(value.float(), size, mode='bilinear', align_corners=True)
        return resized.to(value.dtype)
    return value


def _resize_bias_table(table: Tensor, rows: int) -> Tensor:
    """(side ** 2, heads) -> (rows, heads), both squares of odd sides."""
    side, new_side = math.isqrt(table.shape[0]), math.isqrt(rows)
    square = table.float().t().view(1, -1, side, side)
    square = F.interpolate(square, (new_side, new_side), mode='bicubic', align_corners=False)
    return square.flatten(2)[0].t().to(table.dtype)


@dataclass
class LoadReport:
    """What became of a checkpoint.

    Attributes:
        loaded: names that were loaded.
        share: parameters loaded, as a fraction of those that model and checkpoint should have in common:
            the smaller of the fractions of the model's and of the checkpoint's.
        expected: names that are unused or absent for a known reason, by that reason.
        missing: parameters of the model that the checkpoint does not hold.
        unexpected: entries of the checkpoint that the model does not have.
        mismatched: entries of another shape, as `name: checkpoint's shape, model's shape`.
    """

    loaded: list[str] = field(default_factory=list)
    share: float = 0.0
    expected: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f'{len(self.loaded)} tensors loaded, {self.share:.1%} of the parameters']
        lines += [f'expected, {reason}: {_some(names)}' for reason, names in self.expected.items()]
        for word in ('missing', 'unexpected', 'mismatched'):
            if names := getattr(self, word):
                lines.append(f'{word}: {_some(names)}')
        return '\n'.join(lines)


def load_pretrained(module: nn.Module, source: str, prefix: str | None = None) -> LoadReport:
    """Load a checkpoint into a backbone or classifier and log what became of it.

    Args:
        module: a `UnifiedBackbone` or `UnifiedClassifier`.
        source: path or URL.
        prefix: where the backbone lies in the checkpoint, such as `backbone.`; None finds it.

    Raises:
        BackboneError: the file cannot be read, or less than 90 % of its or the model's parameters fit.
    """
    state_dict = select_prefix(read_state_dict(source), prefix, source)
    translate_state_dict(module, state_dict, '')
    report = _report(module, state_dict)
    if report.share < SMALLEST_SHARE:
        raise BackboneError(
            f'{source}: only {report.share:.1%} of the parameters fit this {module.mixer_name} '
            f'backbone ({_some(report.mismatched or report.missing or report.unexpected)}); '
            'choose the config of the mixer and scale that it was trained with'
        )
    own = module.state_dict()
    module.load_state_dict({**own, **{name: state_dict[name] for name in report.loaded}})
    print_log(f'{source}: {report}', logger='current')
    return report


def read_state_dict(source: str) -> dict[str, Tensor]:
    """The weights in a checkpoint, without running any code that it may contain.

    Args:
        source: path or URL of a file with `state_dict` or `model`, or of a plain state dict.

    Raises:
        BackboneError: the file is missing or is not a checkpoint.
    """
    return weights_of(read_checkpoint(source), source)


def read_checkpoint(source: str) -> dict:
    """All that a checkpoint holds, without running any code that it may contain.

    Objects of classes that checkpoints of this field are known to hold come as inert data.

    Args:
        source: path or URL.

    Raises:
        BackboneError: the file is missing, is not a checkpoint, or needs code to be run.
    """
    path = _local_copy(source)
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        with torch.serialization.safe_globals(_inert_classes()):
            content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        unknown = re.search(r'GLOBAL ([\w.]+)', str(error))
        needs = f'needs code of {unknown.group(1)} to be run' if unknown else 'is damaged'
        raise BackboneError(f'{source} {needs}; give a file of weights alone') from error
    except Exception as error:
        raise BackboneError(f'{source} is damaged or not a checkpoint; get it again') from error
    if not isinstance(content, Mapping):
        raise BackboneError(f'{source} holds no weights but a {type(content).__name__}')
    return dict(content)


def weights_of(content: Mapping, source: str) -> dict[str, Tensor]:
    """The state dict in a checkpoint's content: under the first of `WEIGHT_KEYS`, or all of it.

    Raises:
        BackboneError: there is none; the message names `source`.
    """
    for key in WEIGHT_KEYS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    weights = {
        name.removeprefix('module.'): value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not weights:
        raise BackboneError(f'{source} holds no weights: expected one of {", ".join(WEIGHT_KEYS)}')
    return weights


class Inert:
    """Stands for an object whose class is not needed: keeps the state, has no behaviour."""

    def __init__(self, *args: object) -> None:
        self.args = args


def _inert_classes() -> list:
    """What an unpickler may meet in a checkpoint, by full name, and what it gets instead."""
    inert = [
        'mmengine.logging.history_buffer.HistoryBuffer',
        'builtins.getattr',
        # The last is where Python 3.13 has them.
        *(
            f'pathlib.{kind}'
            for kind in ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')
        ),
        *(f'pathlib._local.{kind}' for kind in ('PosixPath', 'WindowsPath')),
    ]
    scalars = [type(np.dtype(kind)) for kind in ('bool', 'int32', 'int64', 'float32', 'float64')]
    # NumPy 2 moved these two; files of either version name their own place.
    arrays = [
        (getattr(multiarray, name), f'{package}.multiarray.{name}')
        for name in ('_reconstruct', 'scalar')
        for package in ('numpy.core', 'numpy._core')
    ]
    stand_ins = [(Inert, name) for name in inert]
    return [argparse.Namespace, np.ndarray, np.dtype, *stand_ins, *arrays, *scalars]


def select_prefix(weights: dict[str, Tensor], prefix: str | None, source: str) -> dict[str, Tensor]:
    """Entries under `prefix`, without it; a detector's `backbone.` is found where none is given.

    Raises:
        BackboneError: nothing lies under `prefix`.
    """
    if prefix is None:
        prefix = 'backbone.' if any(name.startswith('backbone.') for name in weights) else ''
    elif prefix and not prefix.endswith('.'):
        prefix += '.'
    chosen = {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
    if not chosen:
        raise BackboneError(f'{source} has nothing under the prefix {prefix!r}')
    return chosen


def _local_copy(source: str) -> Path:
    if not source.startswith(('http://', 'https://')):
        path = Path(source).expanduser()
        if not path.is_file():
            raise BackboneError(f'checkpoint {source} is not a file')
        return path
    path = Path(torch.hub.get_dir()) / 'checkpoints' / source.rsplit('/', 1)[-1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(source, str(path))
        except OSError as error:
            raise BackboneError(f'checkpoint {source} cannot be downloaded: {error}') from error
    return path


def _report(module: nn.Module, state_dict: dict[str, Tensor]) -> LoadReport:
    own = module.state_dict()
    report = LoadReport()
    for name, value in state_dict.items():
        if name not in own:
            _file(report, name, UNUSED_BY_DENSE, report.unexpected)
        elif value.shape == own[name].shape:
            report.loaded.append(name)
        else:
            shapes = f'{list(value.shape)} in the file, {list(own[name].shape)} in the model'
            report.mismatched.append(f'{name}: {shapes}')
    for name in own:
        if name not in state_dict:
            _file(report, name, ABSENT_FROM_CLASSIFIER, report.missing)
    loaded = sum(own[name].numel() for name in report.loaded)
    known_absent = {name for names in report.expected.values() for name in names}
    shares = [
        loaded / max(sum(v.numel() for name, v in side.items() if name not in known_absent), 1)
        for side in (own, state_dict)
    ]
    report.share = min(shares)
    return report


def _file(report: LoadReport, name: str, reasons: dict[str, str], otherwise: list[str]) -> None:
    reason = next((text for start, text in reasons.items() if name.startswith(start)), None)
    (report.expected.setdefault(reason, []) if reason else otherwise).append(name)


def _some(names: list[str], shown: int = 4) -> str:
    more = f' and {len(names) - shown} more' if len(names) > shown else ''
    return ', '.join(names[:shown]) + more
