"""Time configs side by side: seconds, FLOP rate relative to the measured peak, and memory.

    python tools/benchmark.py configs/mask_rcnn_*_tiny.py --alone --dtype bf16
    python tools/benchmark.py configs/mask_rcnn_swin_tiny.py --alone --peer timm:convnext_tiny
    python tools/benchmark.py configs/mask_rcnn_swin_tiny.py --backbone dcn_tiny timm:convnext_tiny
    python tools/benchmark.py configs/mask_rcnn_*_tiny.py --side 256 512 1024 --plot growth.png

Each round times every row and a large matrix product once, in a new random order, so that drift of a
shared machine affects all rows equally. Without --shape or --side, images have the size that the recipe
states, otherwise the usual size in publications: 800x1280 (height x width) for detection, 512x2048 for
segmentation.
"""

import argparse
import contextlib
import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.utils.errors import CommandLine, UserError, command, warn
from evaluation.utils.formats import positive, whole

if TYPE_CHECKING:
    from evaluation.benchmark.measuring import BenchmarkPlan
    from evaluation.benchmark.subjects import ConfigSubject, TimedSubject

DTYPES = ('fp32', 'bf16', 'fp16')


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: an option is unknown, has an invalid value, or conflicts with another one.
    """
    from evaluation.config.overrides import add_overrides

    parser = CommandLine(__doc__)
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files')
    parser.add_argument(
        '--backbone',
        nargs='*',
        metavar='NAME',
        help='time each config with each of these backbones instead of its own: scales such as '
        'dcn_tiny, timm:NAME or package.module:Class; without a NAME, the same as --alone',
    )
    parser.add_argument('--alone', action='store_true', help='time only the backbones')
    add_sizes(parser)
    parser.add_argument(
        '--dtype',
        type=known_dtype,
        default='fp32',
        metavar='|'.join(DTYPES),
        help='bf16 and fp16 use autocast with fp32 weights, as in mixed-precision training',
    )
    parser.add_argument(
        '--backward', action='store_true', help='time forward and backward passes in train mode'
    )
    parser.add_argument(
        '--compile', action='store_true', help='compile the backbones with torch.compile'
    )
    parser.add_argument(
        '--device', metavar='cpu|cuda|cuda:N', help='default: the first GPU, else the CPU'
    )
    parser.add_argument(
        '--peer',
        nargs='+',
        action='extend',
        default=[],
        metavar='timm:NAME',
        help='timm backbones to time as well; requires --alone',
    )
    parser.add_argument('--repeats', type=positive, default=10, metavar='N', help='rounds; default 10')
    parser.add_argument(
        '--matrix-side',
        type=positive,
        metavar='N',
        help='side of the matrices that measure the peak; default 4096 on the CPU, 8192 on a GPU',
    )
    parser.add_argument(
        '--seed',
        type=whole,
        default=0,
        metavar='N',
        help='random seed of the images and the order; default 0',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write all raw times to FILE')
    parser.add_argument(
        '--plot', type=Path, metavar='FILE.png', help='also plot growth with size to FILE.png'
    )
    add_overrides(parser)
    arguments = parser.parse_args()
    arguments.alone = arguments.alone or arguments.backbone == []
    check_combinations(arguments)
    return arguments


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the options for the size of the input."""
    shapes = parser.add_mutually_exclusive_group()
    shapes.add_argument(
        '--shape',
        nargs=2,
        type=positive,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images in pixels; default: that of the recipe or of publications',
    )
    shapes.add_argument(
        '--side',
        nargs='+',
        type=positive,
        metavar='N',
        help='side of square images, instead of --shape; several print one table each, and the growth',
    )
    parser.add_argument(
        '--batch',
        nargs='+',
        type=positive,
        default=[1],
        metavar='N',
        help='images per batch, default 1; several print one table each, and the growth',
    )


def known_dtype(text: str) -> str:
    """Check that the text is one of `DTYPES`."""
    if text not in DTYPES:
        raise argparse.ArgumentTypeError(f'unknown dtype {text!r}; choose from {", ".join(DTYPES)}')
    return text


def check_combinations(arguments: argparse.Namespace) -> None:
    """Check combinations of options before any work starts.

    Raises:
        UserError: options conflict, or a file cannot be written.
    """
    if config := next((name for name in arguments.backbone or () if name.endswith('.py')), None):
        raise UserError(f'--backbone {config} is a config; give the configs first, then --backbone')
    if arguments.peer and not arguments.alone:
        raise UserError('--peer needs --alone, since peers have no heads for detection or segmentation')
    if arguments.plot and arguments.plot.suffix != '.png':
        raise UserError(f'--plot {arguments.plot} must end in .png; give another name')
    grows = len({*(arguments.side or [])}) > 1 or len({*arguments.batch}) > 1
    if arguments.plot and not grows:
        raise UserError('--plot needs several sizes; give them with --side or --batch')
    for file in (arguments.json, arguments.plot):
        if file and (file.is_dir() or not file.resolve().parent.is_dir()):
            raise UserError(f'{file} cannot be written; give a file in an existing folder')


@command
def main() -> None:
    """Measure all configs and write the results."""
    arguments = parse_arguments()
    # Some libraries print when they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        from evaluation.benchmark.measuring import run
        from evaluation.benchmark.speed_report import as_json, picture_title, render
        from evaluation.benchmark.subjects import BACKBONES, WHOLE_MODELS
        from evaluation.utils.files import json_text, write_output
        from evaluation.utils.process_memory import keep_freed_memory

        scope = BACKBONES if arguments.alone else WHOLE_MODELS
        plan = make_plan(arguments)
        if plan.mode.device.type == 'cpu':
            keep_freed_memory()
        results = run(plan)
    if arguments.json:
        write_output(arguments.json, json_text(as_json(plan, scope, results)).encode())
    if arguments.plot:
        from evaluation.benchmark.plot import draw_growth

        write_output(arguments.plot, draw_growth(results, picture_title(plan, scope)))
    sys.stdout.write(render(plan, scope, results))


def make_plan(arguments: argparse.Namespace) -> 'BenchmarkPlan':
    """Build the plan from the command line.

    Raises:
        UserError: a config, peer or device is invalid, the device does not support the dtype, or the
            input sizes of the configs differ.
    """
    from evaluation.benchmark.measuring import BenchmarkPlan
    from evaluation.benchmark.passes import Mode, growing_sizes
    from evaluation.benchmark.subjects import PeerSubject, common_shape
    from evaluation.utils.devices import check_dtype, find_device

    device = find_device(arguments.device)
    check_dtype(device, arguments.dtype)
    peers = [PeerSubject(name) for name in arguments.peer]
    configs = read_configs(arguments)
    if arguments.side:
        shapes = [(side, side) for side in arguments.side]
    else:
        shapes = [tuple(arguments.shape or common_shape(configs))]
    subjects: list[TimedSubject] = [*configs, *peers]
    return BenchmarkPlan(
        subjects=subjects,
        sizes=growing_sizes(shapes, arguments.batch),
        mode=Mode(device, arguments.dtype, arguments.backward, arguments.compile),
        rounds=arguments.repeats,
        matrix_side=arguments.matrix_side,
        seed=arguments.seed,
    )


def read_configs(arguments: argparse.Namespace) -> list['ConfigSubject']:
    """Return a row for each config file; errors name the file.

    Raises:
        UserError: a config cannot be read, or has no model that can be timed.
    """
    from evaluation.benchmark.subjects import ConfigSubject, row_names
    from evaluation.config.contestants import open_config
    from evaluation.config.recipe import contestant_name, recipe_of

    opened = []
    for config, backbone in product(arguments.configs, arguments.backbone or [None]):
        cfg, warnings = open_config(config, backbone, arguments.cfg_options)
        for warning in warnings:
            warn(warning)
        opened.append((config if backbone is None else str(cfg.filename), cfg))
    names = row_names([config for config, _ in opened])
    found = []
    for (config, cfg), name in zip(opened, names, strict=True):
        if 'model' not in cfg:
            raise UserError(f'config {config} has no model; give a config that can be trained')
        recipe = recipe_of(cfg)
        size, experiment = None, None
        if recipe:
            size = recipe.flops_size
            experiment = {'recipe': recipe.name, 'contestant': contestant_name(cfg)}
        scope = cfg.get('default_scope')
        try:
            found.append(ConfigSubject(name, cfg.model, scope, arguments.alone, size, experiment))
        except UserError as error:
            raise UserError(f'config {config}: {error}') from error
    return found


if __name__ == '__main__':
    main()
