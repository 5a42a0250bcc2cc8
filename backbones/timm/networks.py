"""Build networks of timm for images of any size, and find their published weights."""

import difflib
import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from backbones.errors import BackboneError

# Options that let a network take images of other sizes than its pretraining, where it has them. With
# them, windows keep their pretrained size; timm would derive a new one from an image size.
ANY_SIZE = {'strict_img_size': False, 'dynamic_img_size': True, 'always_partition': True}
# Patch size of plain vision transformers in dense models. timm resamples patch embeddings of another
# size, as EVA does for detection (arXiv 2211.07636, section 3.1.3).
PATCH_SIZE = 16
# Names to suggest, one for each kind of network.
SUGGESTED = (
    'convnext_tiny',
    'deit_small_patch16_224',
    'efficientnet_b0',
    'efficientvit_b1',
    'mambaout_tiny',
    'maxvit_tiny_tf_224',
    'mobilenetv3_large_100',
    'poolformer_s12',
    'pvt_v2_b2',
    'regnety_040',
    'resnet50',
    'swin_tiny_patch4_window7_224',
    'swinv2_tiny_window8_256',
    'twins_svt_small',
    'vit_small_patch14_dinov2',
    'vit_small_patch16_224',
)
# In a repository or a folder.
RELEASED_FILE = 'model.safetensors'


def create(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: name in timm, with or without the tag of its weights; or `hf-hub:` and a repository, or
            `local-dir:` and a folder.
        options: options of the network's class.

    Raises:
        BackboneError: timm does not know the name, or the network does not accept an option.
    """
    _check_name(name)
    try:
        return timm.create_model(name, pretrained=False, **options)
    except TypeError as error:
        raise BackboneError(f'timm:{name}: {_first_line(error)}') from error
    except OSError as error:  # the files of `hf-hub:` and `local-dir:`
        raise BackboneError(f'timm:{name} cannot be read: {_first_line(error)}') from error


def create_without_values(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a network on the `meta` device; see `create`."""
    try:
        with torch.device('meta'):
            return create(name, options)
    except (NotImplementedError, RuntimeError):
        # Some versions of timm compute with values when they build a network.
        return create(name, options).to('meta')


@functools.cache
def class_options(name: str) -> frozenset[str]:
    """Return the names of the options of a network's class.

    Raises:
        BackboneError: timm does not know the name.
    """
    network = create_without_values(name, {})
    return frozenset(inspect.signature(type(network).__init__).parameters)


def options_for_any_size(name: str) -> dict[str, Any]:
    """Return the options with which a network takes images of any size.

    Raises:
        BackboneError: timm does not know the name.
    """
    return {option: value for option, value in ANY_SIZE.items() if option in class_options(name)}


def pretrained_settings(network: nn.Module) -> dict[str, Any]:
    """Return timm's settings of the published weights of a network, such as `mean` and `std`."""
    return dict(getattr(network, 'pretrained_cfg', None) or {})


def released_weights(name: str, settings: Mapping[str, Any]) -> str:
    """Return the path or URL of the published weights of a network.

    Args:
        name: name of the network.
        settings: from `pretrained_settings`.

    Raises:
        BackboneError: timm has no weights for this name.
    """
    if file := settings.get('file'):
        return str(Path(file, RELEASED_FILE) if Path(file).is_dir() else file)
    if repository := settings.get('hf_hub_id'):
        # timm does without it too, for networks whose weights come from elsewhere.
        import huggingface_hub

        file = settings.get('hf_hub_filename') or RELEASED_FILE
        repository, _, revision = repository.partition('@')
        cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(cached, str):
            return cached
        return huggingface_hub.hf_hub_url(repository, file, revision=revision or None)
    if url := settings.get('url'):
        return url
    tags = timm.list_pretrained(f'{name.partition(".")[0]}.*')
    hint = f'give a name with a tag: {", ".join(tags)}' if tags else 'give a path or URL'
    raise BackboneError(f'timm:{name} has no published weights; {hint}')


def suggestion(name: str) -> str:
    """Return a hint with the names nearest to `name` among networks that work as backbones."""
    near = difflib.get_close_matches(name, SUGGESTED, 3, cutoff=0)
    return f'networks that work are, for example, {", ".join(near)}'


def _check_name(name: str) -> None:
    """Check that timm knows a name.

    Raises:
        BackboneError: it does not; the message names the nearest.
    """
    if ':' in name:
        source = name.partition(':')[0]
        if source not in ('hf-hub', 'local-dir'):
            raise BackboneError(f'timm:{name}: there is no source {source}; give hf-hub: or local-dir:')
        return
    architecture, _, tag = name.partition('.')
    if not timm.is_model(architecture):
        near = timm.list_models(f'{architecture}*')[:3] or difflib.get_close_matches(
            architecture, timm.list_models(), 3
        )
        hint = f'; did you mean {" or ".join(near)}?' if near else ''
        raise BackboneError(f'timm has no model {architecture}{hint}')
    if tag and name not in timm.list_pretrained(f'{architecture}.*'):
        tags = timm.list_pretrained(f'{architecture}.*')
        raise BackboneError(
            f'timm has no weights {name}; it has {", ".join(tags) or f"none for {architecture}"}'
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
