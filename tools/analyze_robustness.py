"""Robustness: how accurate a model stays on attacked and on corrupted images.

    python tools/analyze_robustness.py configs/mask_rcnn_swin_tiny.py epoch_12.pth --limit 500
    python tools/analyze_robustness.py configs/upernet_swin_tiny.py iter_160000.pth --corruptions none
    python tools/analyze_robustness.py configs/imagenet_swin_tiny.py epoch_300.pth --attacks none
    python tools/analyze_robustness.py --compare work_dirs/*/analysis/robustness.json --output both.png

Attacks are FGSM and PGD on the pixels, corruptions those of ImageNet-C. Writes figures (robustness.json,
robustness.csv) and pictures (robustness.png, robustness.pdf) to `work_dirs/<config name>/analysis`, and
prints a table. An interrupted run is gone on with by repeating the command; several processes started by
`tools/launch.py` share the images. --compare shows models side by side.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.analysis.command import leave_result, print_table
from evaluation.utils.errors import CommandLine, UserError, command, did_you_mean, warn
from evaluation.utils.formats import whole

if TYPE_CHECKING:
    from evaluation.analysis.robustness.conditions import Plan
    from evaluation.analysis.robustness.result import Profile

NONE = 'none'
MOST_STEPS = 1000
OF_A_MODEL = (
    'config', 'checkpoint', 'limit', 'work_dir', 'checkpoint_key', 'data_root', 'attacks', 'norm',
    'budgets', 'steps', 'corruptions', 'severities',
)  # fmt: skip
# What two results must have alike to stand beside each other, and the options that settle it.
ALIKE = {
    'attacks': '--attacks',
    'norm': '--norm',
    'steps': '--steps',
    'corruptions': '--corruptions',
    'severities': '--severities',
}
DEFAULT_STEPS = 10


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: options are misspelt, have wrong values, or do not go together.
    """
    from evaluation.analysis.command import add_model_arguments
    from evaluation.engine.experiment import add_data_arguments

    parser = CommandLine(__doc__)
    add_model_arguments(parser, batch=4, batch_help='images in a pass')
    add_data_arguments(parser)
    parser.add_argument('--seed', type=whole, default=0, metavar='N', help='of all that is random')
    add_attack_arguments(parser)
    add_corruption_arguments(parser)
    arguments = parser.parse_args()
    check_combinations(arguments)
    return arguments


def add_attack_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the attacks; None where they are not given."""
    parser.add_argument(
        '--attacks', nargs='+', metavar='NAME', help=f'of fgsm and pgd, or {NONE}; default: both'
    )
    parser.add_argument('--norm', choices=['linf', 'l2'], help='of the budgets; default linf')
    parser.add_argument(
        '--budgets',
        nargs='+',
        type=budget,
        metavar='X',
        help='in 255ths: of linf the largest change of a pixel, default 1 2 4 8; of l2 the root mean '
        'square change, default 0.25 0.5 1 2',
    )
    parser.add_argument('--steps', type=steps, metavar='N', help=f'of PGD; default {DEFAULT_STEPS}')


def add_corruption_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the corruptions; None where they are not given."""
    parser.add_argument(
        '--corruptions', nargs='+', metavar='NAME', help=f'such as fog, or {NONE}; default: all fifteen'
    )
    parser.add_argument(
        '--severities', nargs='+', type=severity, metavar='N', help='1 to 5; default: all'
    )


def budget(text: str) -> float:
    """A number from 0 to 255."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 255:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number from 0 to 255')
    return number


def steps(text: str) -> int:
    """A whole number of steps."""
    return whole(text, least=1, most=MOST_STEPS)


def severity(text: str) -> int:
    """A whole number from 1 to 5."""
    return whole(text, least=1, most=5)


def check_combinations(arguments: argparse.Namespace) -> None:
    """Look at what options say together, before time is spent.

    Raises:
        UserError: options do not go together, or a file cannot be written.
    """
    from evaluation.analysis.command import MODEL, check_model_or_comparison

    check_model_or_comparison(arguments, MODEL, OF_A_MODEL)
    for option in ('attacks', 'corruptions'):
        values = getattr(arguments, option) or []
        if NONE in values and len(values) > 1:
            raise UserError(f'--{option} {" ".join(values)}: give {NONE} alone, or leave it out')
    if arguments.attacks == arguments.corruptions == [NONE]:
        raise UserError(f'--attacks {NONE} --corruptions {NONE} leave nothing to do; give one of them')
    without = {'attacks': ('norm', 'budgets', 'steps'), 'corruptions': ('severities',)}
    for option, others in without.items():
        for other in others:
            if getattr(arguments, option) == [NONE] and getattr(arguments, other) is not None:
                raise UserError(f'--{other} is of {option}; leave it out, or --{option} {NONE}')


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
    from evaluation.analysis.parts import is_main, join_processes
    from evaluation.analysis.robustness.presentation import draw_robustness, robustness_table
    from evaluation.analysis.robustness.result import write_profile
    from evaluation.analysis.robustness.run import analyse, summarise
    from evaluation.analysis.subject import open_subject

    plan = plan_of(arguments)
    output = result_file(arguments, 'robustness.json')
    subject = open_subject(arguments)
    join_processes(arguments.launcher)
    parts = analyse(subject, plan, output)
    if not is_main():
        return ''
    profile = summarise(subject, plan, parts)
    table = leave_result(
        output, partial(write_profile, profile), draw_robustness([profile]), robustness_table([profile])
    )
    parts.remove()
    return table


def plan_of(arguments: argparse.Namespace) -> 'Plan':
    """What is asked for, with defaults; each thing once.

    Raises:
        UserError: there is no such attack or corruption.
    """
    from evaluation.analysis.robustness.attacks import ATTACKS, DEFAULT_BUDGETS
    from evaluation.analysis.robustness.conditions import CORRUPTIONS, SEVERITIES, Plan

    attacks = chosen('attack', arguments.attacks, ATTACKS)
    corruptions = chosen('corruption', arguments.corruptions, CORRUPTIONS)
    norm = arguments.norm or 'linf'
    return Plan(
        attacks=attacks,
        norm=norm,
        budgets=sorted({*(arguments.budgets or DEFAULT_BUDGETS[norm])}),
        steps=arguments.steps or DEFAULT_STEPS,
        corruptions=corruptions,
        severities=sorted({*(arguments.severities or SEVERITIES)}),
        seed=arguments.seed,
    )


def chosen(kind: str, names: list[str] | None, known: Sequence[str]) -> list[str]:
    """Those of the known that were named, in their own order; all where none was.

    Raises:
        UserError: one is unknown.
    """
    if names is None:
        return list(known)
    for name in names:
        if name not in (*known, NONE):
            listed = ', '.join(known)
            raise UserError(f'unknown {kind} {name!r}; known are {listed}{did_you_mean(name, known)}')
    return [name for name in known if name in names]


def compare(files: list[Path], output: Path) -> str:
    """Draw results side by side, and return their table.

    Raises:
        UserError: a file is none of a result, or they are not comparable.
    """
    from evaluation.analysis.results import write_figure
    from evaluation.analysis.robustness.presentation import draw_robustness, robustness_table
    from evaluation.analysis.robustness.result import read_profile
    from evaluation.utils.text_tables import to_markdown

    profiles = [read_profile(file) for file in files]
    for file, profile in zip(files, profiles, strict=True):
        check_alike(files[0], profiles[0], file, profile)
    if len({profile.facts['images']['sha256'] for profile in profiles}) > 1:
        warn('the results are of different images')
    write_figure(draw_robustness(profiles), output)
    return to_markdown(robustness_table(profiles))


def check_alike(first_file: Path, first: 'Profile', file: Path, profile: 'Profile') -> None:
    """See that two results can stand beside each other.

    Raises:
        UserError: they cannot.
    """
    tasks = profile.facts['task'], first.facts['task']
    if tasks[0] != tasks[1]:
        raise UserError(f'{file} is of {tasks[0]}, {first_file} of {tasks[1]}; compare results of one')
    for name, option in ALIKE.items():
        own, other = getattr(profile.plan, name), getattr(first.plan, name)
        if own != other:
            raise UserError(
                f'{file} has other {name} than {first_file}; compare results of one {option}'
            )


if __name__ == '__main__':
    main()
