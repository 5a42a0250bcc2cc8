"""The wrapper that lets several processes train one model."""

import inspect

from mmengine.config import Config
from mmengine.registry import MODEL_WRAPPERS
from torch.nn.parallel import DistributedDataParallel

DEFAULT = 'MMDistributedDataParallel'


def set_model_wrapper(cfg: Config, on_gpu: bool) -> None:
    """Complete the config's `model_wrapper_cfg`; what it sets stays.

    mmengine reads `find_unused_parameters` only without a `model_wrapper_cfg`, and names a GPU for the
    model.

    Args:
        cfg: changed where there is something to complete.
        on_gpu: whether the processes train on GPUs.
    """
    own = cfg.get('model_wrapper_cfg')
    if own is None and on_gpu:
        return
    wrapper = {'type': DEFAULT, 'broadcast_buffers': False} if own is None else {'type': DEFAULT, **own}
    built = wrapper['type']
    built = MODEL_WRAPPERS.get(built) if isinstance(built, str) else built
    if 'find_unused_parameters' in cfg and built is not None and _takes_unused(built):
        wrapper.setdefault('find_unused_parameters', cfg.find_unused_parameters)
    if not on_gpu and inspect.isclass(built) and issubclass(built, DistributedDataParallel):
        # Modules on the CPU must not name a device.
        wrapper['device_ids'] = None
    cfg.model_wrapper_cfg = wrapper


def _takes_unused(built: type) -> bool:
    inits = [vars(base).get('__init__') for base in built.__mro__]
    return any(
        'find_unused_parameters' in inspect.signature(init).parameters
        for init in inits
        if inspect.isfunction(init)
    )
