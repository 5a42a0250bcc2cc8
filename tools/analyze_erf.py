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
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.errors import CommandLine, UserError, command, warn
from evaluation.numbers import positive, whole

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

# What OpenCV resizes and a machine has memory for.
LARGEST_SIDE = 2**14
OF_A_MODEL = ('config', 'images', 'limit', 'targets', 'work_dir', 'checkpoint_key')


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: options are misspelt, have wrong values, or do not go together.
    """
    from evaluation.config.options import add_overrides
    from evaluation.experiment import add_key_and_launcher

    parser = CommandLine(__doc__)
    parser.add_argument('config', nargs='?', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', nargs='?', metavar='CHECKPOINT', help='of the model or a backbone')
    parser.add_argument('--images', type=Path, metavar='FOLDER', help='folder of images')
    parser.add_argument(
        '--size', type=side, default=512, metavar='N', help='side of the images; default 512'
    )
    parser.add_argument('--limit', type=positive, metavar='N', help='take the first N images alone')
    parser.add_argument(
        '--targets',
        nargs='+',
        metavar='NAME',
        help='of stage1 ..., neck1 ..., logits, score; default: all that the model has but score',
    )
    parser.add_argument(
        '--batch', type=positive, default=1, metavar='N', help='images in a pass, at most 8; default 1'
    )
    parser.add_argument(
        '--device', metavar='cpu|cuda|cuda:N', help='default: the first GPU, else the CPU'
    )
    parser.add_argument(
        '--seed', type=whole, default=0, metavar='N', help='of a model before training; default 0'
    )
    parser.add_argument('--work-dir', type=Path, help='where to write; default work_dirs/<config name>')
    parser.add_argument(
        '--compare', nargs='+', type=Path, metavar='FILE.json', help='draw these results side by side'
    )
    parser.add_argument(
        '--output',
        type=Path,
        metavar='FILE',
        help='name of the result, FILE.json, or of the picture of --compare, FILE.png',
    )
    add_overrides(parser)
    add_key_and_launcher(parser)
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
    from evaluation.analysis.parts import ITEMS_IN_A_PART

    output = arguments.output
    if arguments.compare:
        given = [name for name in OF_A_MODEL if getattr(arguments, name) is not None]
        if given:
            word = 'CONFIG' if given[0] == 'config' else '--' + given[0].replace('_', '-')
            raise UserError(f'--compare draws results that are there; leave out {word}')
        if output is None:
            raise UserError('--compare needs --output FILE.png')
    elif arguments.config is None or arguments.images is None:
        raise UserError('give CONFIG and --images FOLDER, or --compare FILE.json ...')
    elif arguments.batch > ITEMS_IN_A_PART:
        raise UserError(f'--batch {arguments.batch}: give at most {ITEMS_IN_A_PART}, the size of a part')
    suffix = '.png' if arguments.compare else '.json'
    if output and output.suffix != suffix:
        raise UserError(f'--output {output}: give a name that ends in {suffix}')
    if output and (output.is_dir() or not output.resolve().parent.is_dir()):
        raise UserError(f'{output}: cannot be written; give a file in an existing folder')


@command
def main() -> None:
    """Look at one model, or compare several."""
    arguments = parse_arguments()
    # Some libraries print when they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        if arguments.compare:
            table = compare(arguments.compare, arguments.output)
        else:
            table = analyse_model(arguments)
    sys.stdout.write(table)


def analyse_model(arguments: argparse.Namespace) -> str:
    """Look at all images, write, and return the table; nothing where another process does this.

    Raises:
        UserError: something in the arguments is wrong.
    """
    from evaluation.analysis.model import read_analysed_config
    from evaluation.analysis.parts import join_processes
    from evaluation.analysis.receptive_field.figure import draw_maps
    from evaluation.analysis.receptive_field.result import maps_of, write_result
    from evaluation.analysis.receptive_field.run import Plan, analyse
    from evaluation.analysis.receptive_field.table import area_table
    from evaluation.experiment import check_work_dir
    from evaluation.tables.formats import to_markdown

    cfg = read_analysed_config(arguments.config, arguments.cfg_options)
    cfg.checkpoint_key = arguments.checkpoint_key
    output = arguments.output
    if output is None:
        work_dir = arguments.work_dir or Path('work_dirs', Path(arguments.config).stem)
        check_work_dir(work_dir)
        output = work_dir / 'analysis' / 'erf.json'
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
    )
    join_processes(arguments.launcher)
    result = analyse(plan, output)
    if result is None:
        return ''
    output.parent.mkdir(parents=True, exist_ok=True)
    write_result(result, output)
    maps = maps_of(result)
    write_figure(draw_maps([maps]), output)
    print(f'result written to {output}')
    return to_markdown(area_table([maps]))


def own_device(name: str | None) -> 'torch.device':
    """The device of a name; where several processes share a machine's GPUs, None is one for each.

    Raises:
        UserError: it is not there, or of another kind.
    """
    import torch

    from evaluation.benchmark.device import find_device

    local_rank = int(os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', 0)))
    if name is None and torch.cuda.is_available():
        name = f'cuda:{local_rank % torch.cuda.device_count()}'
    return find_device(name)


def compare(files: list[Path], output: Path) -> str:
    """Draw results side by side, and return their table.

    Raises:
        UserError: a file is none of a result, or the sizes differ.
    """
    from evaluation.analysis.receptive_field.figure import draw_maps
    from evaluation.analysis.receptive_field.result import read_maps
    from evaluation.analysis.receptive_field.table import area_table
    from evaluation.tables.formats import to_markdown

    models = [read_maps(file) for file in files]
    for file, model in zip(files, models, strict=True):
        if model.size != models[0].size:
            raise UserError(
                f'{file} is of images of {model.size}x{model.size}, {files[0]} of '
                f'{models[0].size}x{models[0].size}; compare results of one --size'
            )
    if len({model.images for model in models}) > 1:
        warn('the results are of different images')
    write_figure(draw_maps(models), output)
    return to_markdown(area_table(models))


def write_figure(figure: 'Figure', output: Path) -> None:
    """Write a PNG and a PDF with the name of `output`.

    Raises:
        UserError: a file cannot be written.
    """
    from evaluation.analysis.receptive_field.figure import figure_bytes
    from evaluation.files import write_output

    for kind in ('png', 'pdf'):
        write_output(output.with_suffix(f'.{kind}'), figure_bytes(figure, kind))


if __name__ == '__main__':
    main()
