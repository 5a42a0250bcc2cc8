"""Check a backbone before training: one verdict a line.

    python tools/check_backbone.py dcn_tiny
    python tools/check_backbone.py 'my_net:Net(depth=3)' --json verdicts.json
    python tools/check_backbone.py my_net:Net --size 64 64 --size 333 500

NAME is what --backbone of the other commands takes: a scale of configs/_base_/backbones, timm:NAME, or
package.module:Class, each with options in parentheses. Needs neither data nor weights, and uses no GPU.

A verdict is ok, FAILED (what is wrong, and what to do), skipped (the reason) or note, which is never
counted as a failure.

Exit status: 0 if no check failed, 1 if one did, 2 for invalid input, such as an unknown name.
"""

import argparse
import contextlib
import copy
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from evaluation.utils.errors import CommandLine, UserError, command
from evaluation.utils.formats import fixed, positive, whole

if TYPE_CHECKING:
    from torch import nn

    from evaluation.models.backbone_subject import Found, Subject, Verdict

BROKEN = 1
SMALLEST_SIDE = 32
# Timed passes of each network; they take turns, so that both see the same load of the machine.
PASSES = 5
TIMED_SIZE = (224, 224)
PEER = 'ResNet-50'


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument('name', metavar='NAME', help='name of the backbone')
    parser.add_argument(
        '--size',
        nargs=2,
        type=positive,
        action='append',
        metavar=('HEIGHT', 'WIDTH'),
        help='size of images, in pixels; repeat it for several, the first is used by most checks '
        '(default: 64 64, 97 131 and 224 160)',
    )
    parser.add_argument(
        '--seed', type=whole, default=0, metavar='N', help='seed of weights and images (default: 0)'
    )
    parser.add_argument(
        '--json', type=Path, metavar='FILE', help='also write verdicts and figures to FILE'
    )
    parser.add_argument(
        '--traceback', action='store_true', help='show the tracebacks of exceptions that failed a check'
    )
    return parser.parse_args()


@command
def main() -> None:
    """Run all checks, print verdicts as they come, and exit with the status."""
    arguments = parse_arguments()
    sizes = tuple(tuple(size) for size in arguments.size or ())
    for height, width in sizes:
        if min(height, width) < SMALLEST_SIDE:
            raise UserError(f'--size {height} {width}: both sides must be at least {SMALLEST_SIDE}')
    # The standard output has verdicts only; libraries and networks may print, too.
    output = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        from evaluation.utils.files import check_output, json_text, write_output

        if arguments.json:
            check_output(arguments.json)
        start = time.perf_counter()
        with subject_named(arguments.name, sizes, arguments.seed) as subject:
            verdicts = []
            for verdict in verdicts_of(subject):
                verdicts.append(verdict)
                print(line_of(verdict), file=output, flush=True)
                if arguments.traceback and verdict.traceback:
                    print(verdict.traceback.rstrip(), file=output, flush=True)
        print(conclusion(verdicts, time.perf_counter() - start), file=output)
        if arguments.json:
            content = as_json(arguments.name, subject, verdicts)
            write_output(arguments.json, json_text(content).encode())
    if any(verdict.status == 'FAILED' for verdict in verdicts):
        sys.exit(BROKEN)


@contextlib.contextmanager
def subject_named(name: str, sizes: tuple[tuple[int, int], ...], seed: int) -> 'Iterator[Subject]':
    """Find a backbone by name, in the scope of mmdet, whose networks pages may name.

    Raises:
        UserError: the name is invalid.
    """
    from mmengine.logging import MMLogger
    from mmengine.registry import MODELS, DefaultScope

    import backbones  # noqa: F401
    from evaluation.config.contestants import find_backbone
    from evaluation.models.backbone_subject import SIZES, Subject

    settings = find_backbone(name, 'instance_segmentation').settings
    # `init_weights` logs every parameter.
    MMLogger.get_current_instance().setLevel('ERROR')
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield Subject(lambda: MODELS.build(copy.deepcopy(settings)), sizes or SIZES, seed)


def verdicts_of(subject: 'Subject') -> 'Iterator[Verdict]':
    """Run the contract, and then measure speed and memory."""
    from evaluation.models.backbone_contract import CHECKS
    from evaluation.models.backbone_subject import Check, run_checks

    measurements = (
        Check('speed', measure_speed, needs=('builds',)),
        Check('memory', measure_memory, needs=('builds',)),
    )
    yield from run_checks(subject, (*CHECKS, *measurements), starting=show_progress)


def show_progress(name: str) -> None:
    """Show the name of the running check on a terminal; the next line overwrites it."""
    if sys.stderr.isatty():
        print(f'\r\033[K{name} ...\r', end='', file=sys.stderr, flush=True)


def measure_speed(subject: 'Subject') -> 'Found':
    """Time passes in eval mode, in turns with a ResNet-50."""
    import torch

    from evaluation.benchmark.passes import Mode, Size, random_images, run_pass, seconds_of
    from evaluation.models.backbone_subject import Found

    mode = Mode(torch.device('cpu'))
    images = random_images(Size(1, *TIMED_SIZE), mode.device, subject.seed)
    networks = (subject.network, resnet50().eval())
    seconds = []
    for _ in range(PASSES + 1):
        in_turn = (partial(run_pass, network, images, mode) for network in networks)
        seconds.append([seconds_of(action, mode.device) for action in in_turn])
    # The first pass is slower.
    own, peer = (median(values) for values in zip(*seconds[1:], strict=True))
    text = (
        f'{fixed(1000 * own, 0)} ms at {TIMED_SIZE[0]}x{TIMED_SIZE[1]}, {fixed(own / peer, 2)} times as '
        f'long as {PEER} ({fixed(1000 * peer, 0)} ms; medians of {PASSES})'
    )
    return Found(text, {'seconds': own, 'resnet50_seconds': peer, 'ratio': own / peer}, is_note=True)


def measure_memory(subject: 'Subject') -> 'Found':
    """Measure the peak memory of a training step with one image, and that of a ResNet-50."""
    import torch

    from evaluation.benchmark.passes import Mode, Size, peak_memory, random_images
    from evaluation.models.backbone_subject import Found

    mode = Mode(torch.device('cpu'), backward=True)
    images = random_images(Size(1, *TIMED_SIZE), mode.device, subject.seed)
    networks = (subject.build(), resnet50())
    for network in networks:
        network.train()
    own, peer = (peak_memory(network, images, mode) for network in networks)
    text = (
        f'{fixed(own / 2**20, 0)} MiB for a training step at {TIMED_SIZE[0]}x{TIMED_SIZE[1]}, '
        f'{fixed(own / peer, 2)} times as much as {PEER} ({fixed(peer / 2**20, 0)} MiB)'
    )
    return Found(text, {'bytes': own, 'resnet50_bytes': peer, 'ratio': own / peer}, is_note=True)


def resnet50() -> 'nn.Module':
    """Return torchvision's ResNet-50 without its classifier."""
    from torch import nn
    from torchvision.models import resnet50 as whole_resnet50

    return nn.Sequential(*list(whole_resnet50().children())[:-2])


def line_of(verdict: 'Verdict') -> str:
    """Return the line of a verdict."""
    return f'{verdict.status:<8} {verdict.check:<17} {verdict.text}'


def conclusion(verdicts: 'list[Verdict]', seconds: float) -> str:
    """Return the last line: the number of verdicts of each kind, and the time."""
    statuses = [verdict.status for verdict in verdicts]
    counts = ', '.join(
        f'{statuses.count(status)} {status}' for status in ('ok', 'FAILED', 'skipped', 'note')
    )
    return f'{counts}; {fixed(seconds, 0)} s'


def as_json(name: str, subject: 'Subject', verdicts: 'list[Verdict]') -> dict:
    """Return verdicts and figures for a JSON file."""
    from dataclasses import asdict

    import torch

    return {
        'backbone': name,
        'seed': subject.seed,
        'sizes': [list(size) for size in subject.sizes],
        'torch': torch.__version__,
        'threads': torch.get_num_threads(),
        'verdicts': [asdict(verdict) for verdict in verdicts],
    }


if __name__ == '__main__':
    main()
