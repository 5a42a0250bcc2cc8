"""How several processes train one model: the wrapper, and how restarted processes find each other."""

import inspect
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import MODEL_WRAPPERS
from torch.distributed import PrefixStore, Store, rendezvous
from torch.distributed.rendezvous import register_rendezvous_handler
from torch.nn.parallel import DistributedDataParallel

from evaluation.utils.process_groups import restart_count

DEFAULT = 'MMDistributedDataParallel'
SCHEME = 'restart'


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


def init_method() -> str:
    """Of `torch.distributed.init_process_group`, for a process that torchrun started.

    torchrun hands every start the same store, with the addresses that the processes of the one before
    left in it. Whoever reads those before their owner has written its new one fails to connect. So each
    start gets a part of the store of its own.
    """
    if restart_count() == 0:
        return 'env://'
    register_rendezvous_handler(SCHEME, _rendezvous)
    return f'{SCHEME}://'


def _rendezvous(url: str, **options: object) -> Iterator[tuple[Store, int, int]]:
    for store, rank, size in rendezvous('env://', **options):
        yield PrefixStore(f'restart {restart_count()}', store), rank, size
