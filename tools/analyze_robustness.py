"""Robustness: accuracy of a model on attacked and corrupted images.

    python tools/analyze_robustness.py configs/mask_rcnn_swin_tiny.py epoch_12.pth --limit 500
    python tools/analyze_robustness.py configs/upernet_swin_tiny.py iter_160000.pth --corruptions none
    python tools/analyze_robustness.py configs/imagenet_swin_tiny.py epoch_300.pth --attacks none
    python tools/analyze_robustness.py --compare work_dirs/*/analysis/robustness.json --output both.png

The attacks are FGSM and PGD on the pixels; the corruptions are those of ImageNet-C. Writes figures
(robustness.json, robustness.csv) and pictures (robustness.png, robustness.pdf) to
`work_dirs/<config name>/analysis`, and prints a table. To resume an interrupted run, run the same
command again. Processes started by `tools/launch.py` share the images. --compare shows models side by
side.
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
    'config', 'backbone', 'checkpoint', 'limit', 'work_dir', 'checkpoint_key', 'data_root', 'attacks',
    'norm', 'budgets', 'steps', 'corruptions', 'severities',
)  # fmt: skip
# Settings that must match for two results to be compared, and their options.
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
        UserError: an option is unknown, has an invalid value, or conflicts with another one.
    """
    from evaluation.analysis.command import add_model_arguments
    from evaluation.engine.experiment import add_data_arguments

    parser = CommandLine(__doc__)
    add_model_arguments(parser, batch=4, batch_help='images per forward pass')
    add_data_arguments(parser)
    parser.add_argument('--seed', type=whole, default=0, metavar='N', help='random seed; default 0')
    add_attack_arguments(parser)
    add_corruption_arguments(parser)
    arguments = parser.parse_args()
    check_combinations(arguments)
    return arguments


def add_attack_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the attacks, which default to None."""
    parser.add_argument(
        '--attacks', nargs='+', metavar='NAME', help=f'fgsm, pgd, or {NONE}; default: both'
    )
    parser.add_argument('--norm', choices=['linf', 'l2'], help='norm of the budgets; default linf')
    parser.add_argument(
        '--budgets',
        nargs='+',
        type=budget,
        metavar='X',
        help='in units of 1/255: for linf the largest change of a pixel, default 1 2 4 8; for l2 the '
        'root mean square change, default 0.25 0.5 1 2',
    )
    parser.add_argument(
        '--steps', type=steps, metavar='N', help=f'steps of PGD; default {DEFAULT_STEPS}'
    )


def add_corruption_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the corruptions, which default to None."""
    parser.add_argument(
        '--corruptions', nargs='+', metavar='NAME', help=f'such as fog, or {NONE}; default: all fifteen'
    )
    parser.add_argument(
        '--severities', nargs='+', type=severity, metavar='N', help='1 to 5; default: all'
    )


def budget(text: str) -> float:
    """Parse a number from 0 to 255."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 255:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number from 0 to 255')
    return number


def steps(text: str) -> int:
    """Parse a number of steps."""
    return whole(text, least=1, most=MOST_STEPS)


def severity(text: str) -> int:
    """Parse an integer from 1 to 5."""
    return whole(text, least=1, most=5)


def check_combinations(arguments: argparse.Namespace) -> None:
    """Check combinations of options before any work starts.

    Raises:
        UserError: options conflict, or a file cannot be written.
    """
    from evaluation.analysis.command import MODEL, check_model_or_comparison

    check_model_or_comparison(arguments, MODEL, OF_A_MODEL)
    for option in ('attacks', 'corruptions'):
        values = getattr(arguments, option) or []
        if NONE in values and len(values) > 1:
            raise UserError(
                f'--{option} {" ".join(values)}: {NONE} must be the only value; remove it, or the others'
            )
    if arguments.attacks == arguments.corruptions == [NONE]:
        raise UserError(f'--attacks {NONE} --corruptions {NONE} leave nothing to do; give one of them')
    without = {'attacks': ('norm', 'budgets', 'steps'), 'corruptions': ('severities',)}
    for option, others in without.items():
        for other in others:
            if getattr(arguments, option) == [NONE] and getattr(arguments, other) is not None:
                raise UserError(f'--{other} applies to {option}; remove it, or remove --{option} {NONE}')


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
    from evaluation.analysis.parts import is_main, join_processes
    from evaluation.analysis.robustness.presentation import draw_robustness, robustness_table
    from evaluation.analysis.robustness.result import write_profile
    from evaluation.analysis.robustness.run import analyze, summarize
    from evaluation.analysis.subject import open_subject

    plan = plan_of(arguments)
    output = result_file(arguments, 'robustness.json')
    subject = open_subject(arguments)
    join_processes(arguments.launcher)
    parts = analyze(subject, plan, output)
    if not is_main():
        return ''
    profile = summarize(subject, plan, parts)
    table = leave_result(
        output, partial(write_profile, profile), draw_robustness([profile]), robustness_table([profile])
    )
    parts.remove()
    return table


def plan_of(arguments: argparse.Namespace) -> 'Plan':
    """Return the requested plan, with defaults and without duplicates.

    Raises:
        UserError: an attack or corruption is unknown.
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
    """Return the known names that are in `names`, in their fixed order; all if `names` is None.

    Raises:
        UserError: a name is unknown.
    """
    if names is None:
        return list(known)
    for name in names:
        if name not in (*known, NONE):
            listed = ', '.join(known)
            raise UserError(f'unknown {kind} {name!r}; choose from {listed}{did_you_mean(name, known)}')
    return [name for name in known if name in names]


def compare(files: list[Path], output: Path) -> str:
    """Draw results side by side and return their table.

    Raises:
        UserError: a file is not a result, or the results are not comparable.
    """
    from evaluation.analysis.results import write_figure
    from evaluation.analysis.robustness.presentation import draw_robustness, robustness_table
    from evaluation.analysis.robustness.result import read_profile
    from evaluation.utils.text_tables import to_markdown

    profiles = [read_profile(file) for file in files]
    for file, profile in zip(files, profiles, strict=True):
        check_alike(files[0], profiles[0], file, profile)
    if len({profile.facts['images']['sha256'] for profile in profiles}) > 1:
        warn('the results were measured on different images')
    write_figure(draw_robustness(profiles), output)
    return to_markdown(robustness_table(profiles))


def check_alike(first_file: Path, first: 'Profile', file: Path, profile: 'Profile') -> None:
    """Check that two results are comparable.

    Raises:
        UserError: the tasks or settings differ.
    """
    tasks = profile.facts['task'], first.facts['task']
    if tasks[0] != tasks[1]:
        raise UserError(
            f'{file} is for {tasks[0]}, but {first_file} for {tasks[1]}; compare results of one task'
        )
    for name, option in ALIKE.items():
        own, other = getattr(profile.plan, name), getattr(first.plan, name)
        if own != other:
            raise UserError(
                f'{file} and {first_file} differ in {name}; compare results with the same {option}'
            )


if __name__ == '__main__':
    main()
