"""Print the results below work_dirs as a table, next to published results.

    python tools/table.py
    python tools/table.py work_dirs/mask_rcnn_dcn_tiny work_dirs/mask_rcnn_swin_tiny --format latex
    python tools/table.py --recipe upernet_ade20k_160k --format csv --output ade20k.csv
    python tools/table.py --ci
    python tools/table.py --analyses
    python tools/table.py --calibration --ci
    python tools/table.py --published-rows
    python tools/table.py --against original

If a config has several evaluations, the one furthest in training is shown; --all shows all of them.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from evaluation.analysis.results import figures_of, load_analyses
from evaluation.results.published import PACKAGED, comparable_entries, load_published
from evaluation.results.reading import load_results
from evaluation.results.result import Result
from evaluation.results.selection import add_choice, chosen, select
from evaluation.results.shifted import in_distribution
from evaluation.statistics.bootstrap import RESAMPLES, check_resamples
from evaluation.statistics.comparison import Uncertainty, compare, uncertainties
from evaluation.tables.calibration_table import calibration_tables
from evaluation.tables.comparison import against_text, pairs_against
from evaluation.tables.csv_table import single_task
from evaluation.tables.shifted_table import shifted_tables
from evaluation.tables.table import FORMATS, WRITERS, render
from evaluation.utils.errors import CommandLine, UserError, command
from evaluation.utils.files import check_output, write_output


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument(
        'work_dirs',
        nargs='*',
        default=['work_dirs'],
        metavar='WORK_DIR',
        help='folders to search for result.json, at any depth (default: work_dirs)',
    )
    parser.add_argument('--format', choices=FORMATS, default='markdown', help='default: markdown')
    add_choice(parser, 'default: all')
    parser.add_argument(
        '--published',
        default=str(PACKAGED),
        metavar='FILE',
        help="published figures to compare with, 'none' to omit them (default: those of the suite)",
    )
    parser.add_argument(
        '--published-rows',
        action='store_true',
        help='also show published results of any network with the same recipe and data set, as rows',
    )
    parser.add_argument(
        '--against',
        metavar='FAMILY',
        help='show only how the unified backbones differ from those of another family, such as '
        'original, by mixer and scale, with confidence intervals',
    )
    parser.add_argument(
        '--analyses',
        action='store_true',
        help='also show results of tools/analyze_*.py for the same weights, below the same folders',
    )
    parser.add_argument(
        '--calibration',
        action='store_true',
        help='also show tables of calibration errors, which CSV always has',
    )
    parser.add_argument(
        '--ci',
        action='store_true',
        help='also show confidence intervals, and which figures cannot be told apart from the best',
    )
    parser.add_argument(
        '--resamples',
        type=int,
        default=RESAMPLES,
        help=f'resamples for --ci and --against; default {RESAMPLES}',
    )
    parser.add_argument('--all', action='store_true', help='show every evaluation')
    parser.add_argument('--output', type=Path, metavar='FILE', help='default: standard output')
    return parser.parse_args()


def intervals_of(results: list[Result], resamples: int) -> dict[Path, Uncertainty]:
    """Compute the intervals of all results, with a progress bar.

    Raises:
        UserError: a result has no per-image records, or the number of resamples is invalid.
    """
    check_resamples(resamples)
    with tqdm(total=len(results) * resamples, desc='resamples', leave=False, disable=None) as bar:
        return uncertainties(results, resamples, on_progress=bar.update)


def differences(arguments: argparse.Namespace, results: list[Result]) -> str:
    """Return the tables of `--against`, with a progress bar.

    Raises:
        UserError: no pair exists, a pair cannot be compared, or an option does not apply.
    """
    for name in ('ci', 'published_rows', 'analyses', 'calibration'):
        if getattr(arguments, name):
            raise UserError(
                f'--against shows only differences, with intervals; omit --{name.replace("_", "-")}'
            )
    check_resamples(arguments.resamples)
    pairs = pairs_against(results, arguments.against)
    total = len(pairs) * arguments.resamples
    with tqdm(total=total, desc='resamples', leave=False, disable=None) as bar:
        compared = [(a, compare(a, b, arguments.resamples, on_progress=bar.update), b) for a, b in pairs]
    return against_text(compared, arguments.against, arguments.format)


def tables(arguments: argparse.Namespace, results: list[Result], found: list[Result]) -> str:
    """Return the tables of results.

    Args:
        arguments: parsed command line.
        results: results to show.
        found: all results, with those under distribution shift.

    Raises:
        UserError: an option asks for figures that no result has.
    """
    published = [] if arguments.published == 'none' else load_published(Path(arguments.published))
    analyses = load_analyses(arguments.work_dirs) if arguments.analyses else []
    if analyses and not any(figures_of(analyses, result.weights_sha256) for result in results):
        raise UserError(
            'no analysis has the weights of these results; analyze the evaluated checkpoints'
        )
    if arguments.published_rows and not published:
        raise UserError('--published-rows needs published figures; give a file with --published')
    field = published if arguments.published_rows else []
    if arguments.published_rows and not comparable_entries(field, results):
        print('no published result has the recipe and data of these results', file=sys.stderr)
    uncertainty = intervals_of(results, arguments.resamples) if arguments.ci else None
    text = render(results, published, arguments.format, analyses, uncertainty, field)
    if arguments.format == 'csv':
        return text
    resamples = arguments.resamples if arguments.ci else 0
    more = shifted_tables(found, resamples, arguments.all)
    if arguments.calibration:
        more += calibration_tables(results, resamples)
    return '\n'.join([text, *(WRITERS[arguments.format](table) for table in more)])


@command
def main() -> None:
    """Read the results, select, and write the tables."""
    arguments = parse_arguments()
    if arguments.output is not None:
        check_output(arguments.output)
    found = load_results(arguments.work_dirs)
    found = chosen(found, arguments.task, arguments.recipe)
    results = found if arguments.format == 'csv' else in_distribution(found)
    shown = select(results, every=arguments.all)
    if arguments.format == 'csv':
        single_task(shown)
    if arguments.against is None:
        text = tables(arguments, shown, found)
    else:
        text = differences(arguments, shown)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        write_output(arguments.output, text.encode())
    if len(shown) < len(results):
        print(
            f'{len(results) - len(shown)} of {len(results)} evaluations are omitted, since '
            'later or newer ones of the same config exist; --all shows them',
            file=sys.stderr,
        )


if __name__ == '__main__':
    main()
