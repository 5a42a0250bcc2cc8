"""Import the packages that the commands import, and report which of them work.

Runs in a separate process, since imports may crash. Prints a line of JSON before and after each step.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any


def torch_facts() -> dict[str, Any]:
    """Return the build of torch."""
    import torch

    return {
        'version': torch.__version__,
        'cuda': torch.version.cuda,
        'cudnn': torch.backends.cudnn.version() if torch.version.cuda else None,
        'nccl': _nccl(torch),
        'threads': torch.get_num_threads(),
        'simd': torch.backends.cpu.get_cpu_capability(),
        'architectures': torch.cuda.get_arch_list() if torch.cuda.is_available() else [],
    }


def _nccl(torch: Any) -> str | None:
    if not (torch.version.cuda and torch.distributed.is_nccl_available()):
        return None
    return '.'.join(map(str, torch.cuda.nccl.version()))


def gpu_facts() -> dict[str, Any]:
    """Return the GPUs that torch sees."""
    import torch

    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        gpus.append(
            {
                'name': properties.name,
                'capability': [properties.major, properties.minor],
                'memory': total,
                'memory_free': free,
            }
        )
    return {'gpus': gpus}


def torchvision_facts() -> dict[str, Any]:
    """Return the version, and whether the compiled operators exist."""
    import torch
    import torchvision

    return {'version': torchvision.__version__, 'operators': hasattr(torch.ops.torchvision, 'nms')}


def mmcv_facts() -> dict[str, Any]:
    """Return the implementation of mmcv's operators."""
    import backbones  # Before mmcv.ops, which needs its operators.

    mmcv = importlib.import_module('mmcv.ops')
    stand_in = backbones.mmcv_ops.using_stand_in()
    return {'operators': 'stand-in on torchvision' if stand_in else 'compiled', 'file': mmcv.__file__}


def importable(name: str) -> Callable[[], dict[str, Any]]:
    """Return a step that imports a module."""

    def step() -> dict[str, Any]:
        module = importlib.import_module(name)
        return {'version': getattr(module, '__version__', None)}

    return step


def opencv_facts() -> dict[str, Any]:
    """Return the version of OpenCV and its GUI backend."""
    import cv2

    gui = next((line for line in cv2.getBuildInformation().splitlines() if 'GUI:' in line), '')
    return {'version': cv2.__version__, 'gui': gui.partition(':')[2].strip()}


def mixer_facts() -> dict[str, Any]:
    """Return the implementation of the mixers' operators on each device."""
    import torch

    dcnv3, fast_paths = (
        importlib.import_module(f'backbones.ops.{name}') for name in ('dcnv3', 'fast_paths')
    )
    devices = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
    compiled = fast_paths.fast_path('cpu', 'attention', 'attention') is not None
    return {
        'dcnv3': {device: dcnv3.implementation(device, torch.float32) for device in devices},
        'attention': {'cpu': 'numba' if compiled else 'PyTorch'}
        | {device: 'PyTorch' for device in devices[1:]},
    }


STEPS: dict[str, Callable[[], dict[str, Any]]] = {
    'torch': torch_facts,
    'gpus': gpu_facts,
    'torchvision': torchvision_facts,
    'opencv': opencv_facts,
    'numba': importable('numba'),
    'pycocotools': importable('pycocotools.mask'),
    'faster-coco-eval': importable('faster_coco_eval'),
    'timm': importable('timm'),
    'mmengine': importable('mmengine'),
    'mmcv operators': mmcv_facts,
    'mixers': mixer_facts,
    'mmdet': importable('mmdet.apis'),
    'mmseg': importable('mmseg.apis'),
}


def main() -> None:
    """Run all steps, even if some fail."""
    # Libraries may print on import, so answers use a copy of stdout and stdout is sent to stderr.
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    for name, step in STEPS.items():
        print(json.dumps({'step': name}), file=answers, flush=True)
        try:
            answer = {'step': name, 'facts': step()}
        except KeyboardInterrupt:
            raise
        # Any failure of a step, including SystemExit, is reported to the user.
        except BaseException as error:
            answer = {'step': name, 'error': f'{type(error).__name__}: {error}'.partition('\n')[0]}
        print(json.dumps(answer), file=answers, flush=True)
    sys.stdout.flush()


if __name__ == '__main__':
    main()
