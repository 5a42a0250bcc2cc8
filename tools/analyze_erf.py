"""Effective receptive field: how much each pixel contributes to the center of a model's feature maps.

    python tools/analyze_erf.py configs/mask_rcnn_swin_tiny.py --images data/coco/val2017 --limit 200
    python tools/analyze_erf.py configs/mask_rcnn_swin_tiny.py epoch_12.pth --images FOLDER
    python tools/analyze_erf.py --compare work_dirs/*/analysis/erf.json --output erf.png

Without a checkpoint, the model has its initial random weights. Writes figures (erf.json), maps (erf.npz)
and pictures (erf.png, erf.pdf) to `work_dirs/<config name>/analysis`. To resume an interrupted run, run
the same command again. Processes started by `tools/launch.py` share the images. --compare draws models
side by side and prints their area ratios as a table.
"""

import argparse
from functools import partial
from pathlib import Path

from evaluation.analysis.command import leave_result, print_table
from evaluation.utils.errors import CommandLine, UserError, command, warn
from evaluation.utils.formats import whole

# Limit for OpenCV and for memory.
LARGEST_SIDE = 2**14
OF_A_MODEL = (
    'config',
    'backbone',
    'images',
    'limit',
    'targets',
    'protocol',
    'work_dir',
    'checkpoint_key',
)


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: an option is unknown, has an invalid value, or conflicts with another one.
    """
    from evaluation.analysis.command import add_model_arguments
    from evaluation.analysis.results import REPLKNET, SUITE

    parser = CommandLine(__doc__)
    add_model_arguments(parser, batch=1, batch_help='images per forward pass, at most 8')
    parser.add_argument('--images', type=Path, metavar='FOLDER', help='folder of images')
    parser.add_argument(
        '--size',
        type=side,
        default=512,
        metavar='N',
        help='side of the square images in pixels; default 512',
    )
    parser.add_argument(
        '--targets',
        nargs='+',
        metavar='NAME',
        help='maps to analyze: stage1 ..., neck1 ..., logits, score; default: all of them but score',
    )
    parser.add_argument(
        '--seed', type=whole, default=0, metavar='N', help='random seed of an untrained model; default 0'
    )
    parser.add_argument(
        '--protocol',
        choices=[SUITE, REPLKNET],
        help="the suite's images, gradients and areas (default), or those of RepLKNet's code",
    )
    arguments = parser.parse_args()
    check_combinations(arguments)
    return arguments


def side(text: str) -> int:
    """Parse a number of pixels."""
    return whole(text, least=1, most=LARGEST_SIDE)


def check_combinations(arguments: argparse.Namespace) -> None:
    """Check combinations of options before any work starts.

    Raises:
        UserError: options conflict, or a file cannot be written.
    """
    from evaluation.analysis.command import check_model_or_comparison
    from evaluation.analysis.parts import ITEMS_IN_A_PART

    needed = {'config': 'CONFIG', 'images': '--images FOLDER'}
    check_model_or_comparison(arguments, needed, OF_A_MODEL)
    if arguments.batch > ITEMS_IN_A_PART:
        raise UserError(
            f'--batch {arguments.batch} is too large; give at most {ITEMS_IN_A_PART}, the size of a part'
        )


@command
def main() -> None:
    """Analyze one model or compare several results."""
    print_table(parse_arguments(), analyze_model, compare)


def analyze_model(arguments: argparse.Namespace) -> str:
    """Analyze all images, write the results, and return the table; '' except in the main process.

    Raises:
        UserError: an argument is invalid.
    """
    from evaluation.analysis.command import result_file
    from evaluation.analysis.parts import join_processes
    from evaluation.analysis.receptive_field.presentation import area_table, draw_maps
    from evaluation.analysis.receptive_field.result import maps_of, write_result
    from evaluation.analysis.receptive_field.run import Plan, analyze
    from evaluation.analysis.results import SUITE
    from evaluation.engine.trained_model import read_analyzed_config
    from evaluation.utils.devices import own_device

    cfg = read_analyzed_config(
        arguments.config,
        arguments.cfg_options,
        backbone=arguments.backbone,
        checkpoint=arguments.checkpoint,
    )
    cfg.checkpoint_key = arguments.checkpoint_key
    output = result_file(arguments, 'erf.json')
    plan = Plan(
        cfg=cfg,
        checkpoint=arguments.checkpoint,
        folder=arguments.images,
        limit=arguments.limit,
        size=arguments.size,
        batch=arguments.batch,
        targets=arguments.targets,
        seed=arguments.seed,
        device=own_device(arguments.device),
        protocol=arguments.protocol or SUITE,
    )
    join_processes(arguments.launcher)
    result = analyze(plan, output)
    if result is None:
        return ''
    maps = maps_of(result)
    return leave_result(output, partial(write_result, result), draw_maps([maps]), area_table([maps]))


def compare(files: list[Path], output: Path) -> str:
    """Draw results side by side and return their table.

    Raises:
        UserError: a file is not a result, or sizes or protocols differ.
    """
    from evaluation.analysis.receptive_field.presentation import area_table, draw_maps
    from evaluation.analysis.receptive_field.result import read_maps
    from evaluation.analysis.results import write_figure
    from evaluation.utils.text_tables import to_markdown

    models = [read_maps(file) for file in files]
    for file, model in zip(files, models, strict=True):
        if model.size != models[0].size:
            raise UserError(
                f'{file} was measured at {model.size}x{model.size}, but {files[0]} at '
                f'{models[0].size}x{models[0].size}; compare results with the same --size'
            )
        if model.protocol != models[0].protocol:
            raise UserError(
                f'{file} uses protocol {model.protocol}, but {files[0]} uses {models[0].protocol}; '
                'compare results with the same --protocol'
            )
    if len({model.images for model in models}) > 1:
        warn('the results were measured on different images')
    write_figure(draw_maps(models), output)
    return to_markdown(area_table(models))


if __name__ == '__main__':
    main()
