"""mmengine's own loaders, made to read checkpoints without running what they contain.

mmengine falls back to full unpickling where the safe kind fails. Every one of its ways to a checkpoint
(files, URLs, model zoos, object stores) ends in one of the two functions that are replaced here.
"""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import mmengine.runner.checkpoint as mmengine_checkpoint
from torch.types import Device

from backbones.checkpoint.files import read_checkpoint

Location = Device | Callable | str | None


def install_safe_loading() -> None:
    """Replace mmengine's unpickling of files and URLs by `read_checkpoint`.

    Raises:
        ImportError: this mmengine has no such functions, so that loading would not be safe.
    """
    for name, replacement in (('_safe_torch_load', _load), ('load_url', _load_url)):
        if not hasattr(mmengine_checkpoint, name):
            raise ImportError(f'mmengine.runner.checkpoint has no {name}; use onedl-mmengine 0.10')
        setattr(mmengine_checkpoint, name, replacement)


def _load(
    file: str | Path | io.BytesIO, map_location: Location = None, weights_only: bool | None = None
) -> dict:
    if not isinstance(file, io.BytesIO):
        return read_checkpoint(str(file), map_location)
    with tempfile.NamedTemporaryFile(suffix='.pth') as copy:
        copy.write(file.getbuffer())
        copy.flush()
        return read_checkpoint(copy.name, map_location)


def _load_url(
    url: str, model_dir: str | None = None, map_location: Location = None, progress: bool = True
) -> dict:
    return read_checkpoint(url, map_location)
