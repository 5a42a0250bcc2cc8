"""Where a result comes from: code, versions, machine, weights."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch
from torch import nn

from backbones import mmcv_ops
from evaluation.utils.times import now as now

REPOSITORY = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = (
    'torch',
    'torchvision',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmdetection',
    'onedl-mmsegmentation',
    'timm',
    'numpy',
    'pycocotools',
    'faster-coco-eval',
)


def versions() -> dict[str, str | None]:
    """Versions of Python and of the libraries that a figure depends on."""
    found: dict[str, str | None] = {'python': platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    found['mmcv operators'] = 'torchvision' if mmcv_ops.using_stand_in() else 'compiled'
    return found


def git_state() -> dict[str, str | bool | None]:
    """Revision of the suite and whether tracked files were changed; None outside a checkout."""
    revision = _git('rev-parse', 'HEAD')
    changed = _git('status', '--porcelain', '--untracked-files=no')
    return {'revision': revision, 'dirty': None if changed is None else bool(changed)}


def hardware() -> dict:
    """Processors of this machine."""
    return {
        'host_cpu': platform.processor() or platform.machine(),
        'cpu_count': os.cpu_count(),
        'gpus': [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        'world_size': int(os.environ.get('WORLD_SIZE', 1)),
    }


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of a model's state: the same in training and after loading, whatever file it is in."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b'')
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    command = ['git', '-C', str(REPOSITORY), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
