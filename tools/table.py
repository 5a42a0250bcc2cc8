"""Print the results below work_dirs as a table, next to published results.

    python tools/table.py
    python tools/table.py work_dirs/mask_rcnn_dcn_tiny work_dirs/mask_rcnn_swin_tiny --format latex
    python tools/table.py --recipe upernet_ade20k_160k --format csv --output ade20k.csv
    python tools/table.py --ci
    python tools/table.py --analyses

If a config has several evaluations, the one furthest in training is shown; --all shows all of them.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from evaluation.analysis.results import figures_of, load_analyses
from evaluation.results.published import PACKAGED, load_published
from evaluation.results.reading import load_results
from evaluation.results.result import Result
from evaluation.results.selection import add_choice, chosen, select
from evaluation.statistics.bootstrap import RESAMPLES, check_resamples
from evaluation.statistics.comparison import Uncertainty, uncertainties
from evaluation.tables.csv_table import single_task
from evaluation.tables.table import FORMATS, render
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
        '--analyses',
        action='store_true',
        help='also show results of tools/analyze_*.py for the same weights, below the same folders',
    )
    parser.add_argument(
        '--ci',
        action='store_true',
        help='also show confidence intervals, and which figures cannot be told apart from the best',
    )
    parser.add_argument(
        '--resamples', type=int, default=RESAMPLES, help=f'resamples for --ci; default {RESAMPLES}'
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


@command
def main() -> None:
    """Read the results, select, and write the tables."""
    arguments = parse_arguments()
    if arguments.output is not None:
        check_output(arguments.output)
    published = [] if arguments.published == 'none' else load_published(Path(arguments.published))
    found = load_results(arguments.work_dirs)
    results = chosen(found, arguments.task, arguments.recipe)
    shown = select(results, every=arguments.all)
    if arguments.format == 'csv':
        single_task(shown)
    analyses = load_analyses(arguments.work_dirs) if arguments.analyses else []
    if analyses and not any(figures_of(analyses, result.weights_sha256) for result in shown):
        raise UserError(
            'no analysis has the weights of these results; analyze the evaluated checkpoints'
        )
    uncertainty = intervals_of(shown, arguments.resamples) if arguments.ci else None
    text = render(shown, published, arguments.format, analyses, uncertainty)
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
