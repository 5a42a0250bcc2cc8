"""Time a backbone on idle cores and next to a process that keeps one core busy.

    python -m tests.backbones.ops.busy_core
    python -m tests.backbones.ops.busy_core --config configs/mask_rcnn_swin_tiny.py \\
      --peer swin_tiny_patch4_window7_224 --shape 512 768

Each round times, in random order, a forward pass with the CPU's fast paths, one in plain PyTorch
(DENSE_MIXERS_CPU=reference), and one of a timm model. The process is pinned to as many cores as it has
threads; the busy loop runs on the last one. Linux only.
"""

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from evaluation.benchmark.passes import Size
from evaluation.benchmark.subjects import ConfigSubject
from evaluation.config.config_files import read_config
from evaluation.utils.process_memory import keep_freed_memory

REFERENCE = 'plain PyTorch'
UNTIMED_ROUNDS = 2


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--config', type=Path, default=Path('configs/mask_rcnn_convnext_tiny.py'))
    parser.add_argument('--peer', default='convnext_tiny', help='name of a timm model')
    parser.add_argument('--shape', nargs=2, type=int, default=(800, 1280), metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=15)
    return parser.parse_args()


def main() -> None:
    """Measure, then print a table for idle cores and one for a busy core."""
    arguments = parse_arguments()
    cores = sorted(os.sched_getaffinity(0))[: arguments.threads]
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    passes = passes_of(arguments)
    with torch.inference_mode():
        measure(passes, UNTIMED_ROUNDS)
        print_table('idle cores', measure(passes, arguments.rounds))
        with busy(cores[-1]):
            print_table(f'core {cores[-1]} busy', measure(passes, arguments.rounds))


def passes_of(arguments: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Return a forward pass on one image for each row."""
    height, width = arguments.shape
    cfg = read_config(arguments.config)
    subject = ConfigSubject(arguments.config.stem, cfg.model, cfg.get('default_scope'), True)
    backbone = subject.build(Size(1, height, width)).eval()
    peer = timm.create_model(arguments.peer, features_only=True).eval()
    image = torch.randn(1, 3, height, width)
    return {
        'fast': lambda: run(backbone, image, 'fast'),
        REFERENCE: lambda: run(backbone, image, 'reference'),
        f'timm {arguments.peer}': lambda: run(peer, image, 'fast'),
    }


def run(network: nn.Module, image: Tensor, setting: str) -> None:
    """Pass an image through a network with one setting of `DENSE_MIXERS_CPU`."""
    os.environ['DENSE_MIXERS_CPU'] = setting
    network(image)


def measure(passes: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the duration of every pass in seconds, by row and round."""
    seconds = {name: [] for name in passes}
    for _ in range(rounds):
        for name in random.sample([*passes], len(passes)):
            start = time.perf_counter()
            passes[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


@contextlib.contextmanager
def busy(core: int) -> Iterator[None]:
    """Keep a core busy from a separate session, which the scheduler gives a fair share."""
    # The loop ends by itself if this process is killed.
    loop = f'import os\nos.sched_setaffinity(0, [{core}])\nwhile os.getppid() == {os.getpid()}: pass'
    process = subprocess.Popen([sys.executable, '-c', loop], start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def print_table(title: str, seconds: dict[str, list[float]]) -> None:
    """Print medians and quartiles of times in ms, and of the ratio to plain PyTorch in each round."""
    print(title)
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds[REFERENCE], strict=True)]
        milliseconds = quartiles([1000 * each for each in times], '.0f')
        ratios = quartiles(ratios, '.2f')
        print(f'  {name:24} {milliseconds:>22} ms   {ratios} of {REFERENCE}', flush=True)


def quartiles(numbers: list[float], digits: str) -> str:
    """Format a median and, in brackets, both quartiles."""
    low, middle, high = statistics.quantiles(numbers, n=4)
    return f'{middle:{digits}} [{low:{digits}} to {high:{digits}}]'


if __name__ == '__main__':
    main()
