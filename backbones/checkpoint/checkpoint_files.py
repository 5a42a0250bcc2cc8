"""Read checkpoint files of any supported format, from a path, URL or model zoo."""

import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlretrieve

import torch
from filelock import FileLock
from mmengine.runner.checkpoint import get_external_models, get_torchvision_models
from safetensors.torch import load_file
from torch.types import Device
from tqdm import tqdm

from backbones.checkpoint.inert_arrays import UnsafeArrayError
from backbones.checkpoint.unpickling import CodeInCheckpointError, load_inert
from backbones.errors import BackboneError, DamagedFileError

URL_SCHEMES = ('http://', 'https://', 'file://')
ZOOS = {
    'torchvision://': get_torchvision_models,
    'modelzoo://': get_torchvision_models,
    'open-mmlab://': get_external_models,
    'openmmlab://': get_external_models,
}


class _OversizedError(Exception):
    """The content may need far more memory than the file's size; the message names the content."""


def read_checkpoint(source: str, map_location: Device | Callable | str | None = 'cpu') -> dict:
    """Return the whole content of a checkpoint without running any code in it.

    Objects of unknown classes become inert data (see `unpickling`).

    Args:
        source: path or URL of a file written by `torch.save` or safetensors.
        map_location: as in `torch.load`.

    Raises:
        DamagedFileError: the file is empty, truncated, or not a checkpoint.
        BackboneError: the file is missing, unsafe or too large, or does not contain weights.
    """
    path = local_copy(source)
    if path.stat().st_size == 0:
        raise DamagedFileError(f'checkpoint {source} is empty; get it again')
    try:
        if _is_safetensors(path):
            content = load_file(path)
        else:
            _check_size(path)
            content = load_inert(path, map_location)
    except CodeInCheckpointError as error:
        raise BackboneError(
            f'checkpoint {source} tries to run {error}, which loading weights never requires; '
            'get the weights from a source you trust'
        ) from None
    except UnsafeArrayError as error:
        raise BackboneError(
            f'checkpoint {source} contains {error}, which is unsafe to load; '
            'get the weights from a source you trust'
        ) from None
    except _OversizedError as error:
        raise BackboneError(
            f'checkpoint {source} contains {error}; get the weights from a source you trust'
        ) from None
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise BackboneError(f'checkpoint {source} does not fit in memory') from error
    except Exception as error:
        is_download = _is_address(_address_of(source))
        remedy = f'delete {path} to download it again' if is_download else 'get it again'
        raise DamagedFileError(
            f'checkpoint {source} is truncated or not a checkpoint; {remedy}'
        ) from error
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise BackboneError(f'checkpoint {source} contains no weights but an object of type {kind}')
    return dict(content)


def local_copy(source: str) -> Path:
    """Return the path of a checkpoint, after downloading it if `source` is a URL or model zoo name.

    A download is stored under a name made from the whole URL, so that files with the same name do not
    collide, and is moved there only when complete.

    Raises:
        BackboneError: the file does not exist or cannot be read, or the download fails.
    """
    source = _address_of(source)
    if not _is_address(source):
        path = Path(source).expanduser()
        if path.is_dir():
            raise BackboneError(f'checkpoint {source} is a folder; give a file in it')
        if not path.is_file():
            raise BackboneError(f'checkpoint {source} is not a file; check the path')
        if not os.access(path, os.R_OK):
            raise BackboneError(f'checkpoint {source} cannot be read; check its permissions')
        return path
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = Path(torch.hub.get_dir(), 'checkpoints', f'{digest}_{source.rsplit("/", 1)[-1]}')
    path.parent.mkdir(parents=True, exist_ok=True)
    # One process downloads; the others wait for it.
    with FileLock(f'{path}.lock'):
        if not path.is_file():
            _download(source, path)
    return path


def _address_of(source: str) -> str:
    """Return the URL of a name such as `torchvision://resnet50`; paths and URLs are returned unchanged.

    Raises:
        BackboneError: the model zoo has no such name.
    """
    for scheme, addresses in ZOOS.items():
        if source.startswith(scheme):
            name = source.removeprefix(scheme)
            if name not in addresses():
                raise BackboneError(f'checkpoint {source}: {scheme} has no {name}')
            return addresses()[name]
    return source


def _is_address(source: str) -> bool:
    return source.startswith(URL_SCHEMES)


def _download(url: str, path: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = os.path.join(folder, path.name)
            with tqdm(desc=url, unit='B', unit_scale=True) as bar:
                # Unlike torch's own function, this one detects an incomplete transfer.
                urlretrieve(url, part, lambda blocks, size, whole: _advance(bar, blocks * size, whole))
            os.replace(part, path)
    except (OSError, ValueError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise BackboneError(
            f'checkpoint {url} cannot be downloaded ({reason}); '
            'check the address and the network, or download it elsewhere and give the path of the file'
        ) from error


def _advance(bar: tqdm, done: int, whole: int) -> None:
    bar.total = whole if whole > 0 else None
    bar.update(min(done, whole if whole > 0 else done) - bar.n)


def _check_size(path: Path) -> None:
    """Reject a zip bomb: `torch.save` stores members uncompressed, and each of them once.

    Raises:
        _OversizedError: a member is compressed, or the members claim more bytes than the file has.
        zipfile.BadZipFile: the file is truncated.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    packed = next((each for each in members if each.compress_type != zipfile.ZIP_STORED), None)
    if packed:
        raise _OversizedError(
            f'compressed members such as {packed.filename}, which torch.save never writes '
            '(if you trust it, unpack it and pack it again with zip -0)'
        )
    claimed, size = sum(member.file_size for member in members), path.stat().st_size
    if claimed > size:
        raise _OversizedError(f'members that claim {claimed:,} bytes in a file of {size:,} bytes')


def _is_safetensors(path: Path) -> bool:
    """Check the content, since users rename files: 8 bytes of length, then JSON."""
    with open(path, 'rb') as file:
        return re.match(rb'.{8}\s*\{', file.read(64), re.DOTALL) is not None
