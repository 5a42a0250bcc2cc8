"""Effective receptive field: how much each pixel contributes to the middle of a model's maps.

    python tools/analyze_erf.py configs/mask_rcnn_swin_tiny.py --images data/coco/val2017 --limit 200
    python tools/analyze_erf.py configs/mask_rcnn_swin_tiny.py epoch_12.pth --images FOLDER
    python tools/analyze_erf.py --compare work_dirs/*/analysis/erf.json --output erf.png

Without a checkpoint the model is as it is before training. Writes figures (erf.json), maps (erf.npz) and
pictures (erf.png, erf.pdf) to `work_dirs/<config name>/analysis`. An interrupted run is gone on with by
repeating the command; several processes started by `tools/launch.py` share the images. --compare draws
models side by side and prints their area ratios as a table.
"""

import argparse
from functools import partial
from pathlib import Path

from evaluation.analysis.command import leave_result, print_table
from evaluation.utils.errors import CommandLine, UserError, command, warn
from evaluation.utils.formats import whole

# What OpenCV resizes and a machine has memory for.
LARGEST_SIDE = 2**14
OF_A_MODEL = ('config', 'images', 'limit', 'targets', 'protocol', 'work_dir', 'checkpoint_key')


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: options are misspelt, have wrong values, or do not go together.
    """
    from evaluation.analysis.command import add_model_arguments
    from evaluation.analysis.results import REPLKNET, SUITE

    parser = CommandLine(__doc__)
    add_model_arguments(parser, batch=1, batch_help='images in a pass, at most 8')
    parser.add_argument('--images', type=Path, metavar='FOLDER', help='folder of images')
    parser.add_argument(
        '--size', type=side, default=512, metavar='N', help='side of the images; default 512'
    )
    parser.add_argument(
        '--targets',
        nargs='+',
        metavar='NAME',
        help='of stage1 ..., neck1 ..., logits, score; default: all that the model has but score',
    )
    parser.add_argument(
        '--seed', type=whole, default=0, metavar='N', help='of a model before training; default 0'
    )
    parser.add_argument(
        '--protocol',
        choices=[SUITE, REPLKNET],
        help="images, gradients and areas as the suite measures (default), or as RepLKNet's code does",
    )
    arguments = parser.parse_args()
    check_combinations(arguments)
    return arguments


def side(text: str) -> int:
    """A whole number of pixels."""
    return whole(text, least=1, most=LARGEST_SIDE)


def check_combinations(arguments: argparse.Namespace) -> None:
    """Look at what options say together, before time is spent.

    Raises:
        UserError: options do not go together, or a file cannot be written.
    """
    from evaluation.analysis.command import check_model_or_comparison
    from evaluation.analysis.parts import ITEMS_IN_A_PART

    needed = {'config': 'CONFIG', 'images': '--images FOLDER'}
    check_model_or_comparison(arguments, needed, OF_A_MODEL)
    if arguments.batch > ITEMS_IN_A_PART:
        raise UserError(f'--batch {arguments.batch}: give at most {ITEMS_IN_A_PART}, the size of a part')


@command
def main() -> None:
    """Look at one model, or compare several."""
    print_table(parse_arguments(), analyse_model, compare)


def analyse_model(arguments: argparse.Namespace) -> str:
    """Look at all images, write, and return the table; nothing where another process does this.

    Raises:
        UserError: something in the arguments is wrong.
    """
    from evaluation.analysis.command import result_file
    from evaluation.analysis.parts import join_processes
    from evaluation.analysis.receptive_field.presentation import area_table, draw_maps
    from evaluation.analysis.receptive_field.result import maps_of, write_result
    from evaluation.analysis.receptive_field.run import Plan, analyse
    from evaluation.analysis.results import SUITE
    from evaluation.engine.trained_model import read_analysed_config
    from evaluation.utils.devices import own_device

    cfg = read_analysed_config(arguments.config, arguments.cfg_options)
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
    result = analyse(plan, output)
    if result is None:
        return ''
    maps = maps_of(result)
    return leave_result(output, partial(write_result, result), draw_maps([maps]), area_table([maps]))


def compare(files: list[Path], output: Path) -> str:
    """Draw results side by side, and return their table.

    Raises:
        UserError: a file is none of a result, or sizes or protocols differ.
    """
    from evaluation.analysis.receptive_field.presentation import area_table, draw_maps
    from evaluation.analysis.receptive_field.result import read_maps
    from evaluation.analysis.results import write_figure
    from evaluation.utils.text_tables import to_markdown

    models = [read_maps(file) for file in files]
    for file, model in zip(files, models, strict=True):
        if model.size != models[0].size:
            raise UserError(
                f'{file} is of images of {model.size}x{model.size}, {files[0]} of '
                f'{models[0].size}x{models[0].size}; compare results of one --size'
            )
        if model.protocol != models[0].protocol:
            raise UserError(
                f'{file} is of the protocol {model.protocol}, {files[0]} of {models[0].protocol}; '
                'compare results of one --protocol'
            )
    if len({model.images for model in models}) > 1:
        warn('the results are of different images')
    write_figure(draw_maps(models), output)
    return to_markdown(area_table(models))


if __name__ == '__main__':
    main()
