"""Make mmengine read checkpoints without running code in them.

mmengine falls back to full unpickling if safe unpickling fails. All its loaders (files, URLs, model
zoos, object stores) end in one of the functions that this module replaces.
"""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import mmengine.runner.checkpoint as mmengine_checkpoint
from mmengine.runner import CheckpointLoader
from torch.types import Device

from backbones.checkpoint.checkpoint_files import read_checkpoint

Location = Device | Callable | str | None


def install_safe_loading() -> None:
    """Replace mmengine's unpickling of files and URLs with `read_checkpoint`.

    Raises:
        ImportError: this mmengine has no such functions, so loading would be unsafe.
    """
    for name, replacement in (('_safe_torch_load', _load), ('load_url', _load_url)):
        if not hasattr(mmengine_checkpoint, name):
            raise ImportError(f'mmengine.runner.checkpoint has no {name}; use onedl-mmengine 0.10')
        setattr(mmengine_checkpoint, name, replacement)
    CheckpointLoader.register_scheme('', load_from_local, force=True)


def load_from_local(filename: str, map_location: Location = None) -> dict:
    """Load a file; replaces mmengine's loader, which logs part of this function's name."""
    return _load(filename, map_location)


def _load(
    file: str | Path | io.BytesIO, map_location: Location = None, weights_only: bool | None = None
) -> dict:
    if not isinstance(file, io.BytesIO):
        return _without_code(read_checkpoint(str(file), map_location))
    with tempfile.NamedTemporaryFile(suffix='.pth') as copy:
        copy.write(file.getbuffer())
        copy.flush()
        return _without_code(read_checkpoint(copy.name, map_location))


def _load_url(
    url: str, model_dir: str | None = None, map_location: Location = None, progress: bool = True
) -> dict:
    return _without_code(read_checkpoint(url, map_location))


def _without_code(content: dict) -> dict:
    """Remove the config text, which mmengine's runner would run as Python to compare GPU counts."""
    if isinstance(content.get('meta'), dict):
        content['meta'].pop('config', None)
    return content
