"""How restarted processes find each other."""

from collections.abc import Iterator

from torch.distributed import PrefixStore, Store, rendezvous
from torch.distributed.rendezvous import register_rendezvous_handler

from evaluation.utils.processes.restarts import restart_count

SCHEME = 'restart'


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
