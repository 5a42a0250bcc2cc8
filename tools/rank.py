"""Rank contestants in several columns, and test whether the ranking holds from column to column.

    python tools/rank.py work_dirs
    python tools/rank.py work_dirs/mask_rcnn_* work_dirs/upernet_* --plot ranks.png
    python tools/rank.py work_dirs --metric box_AP --metric mask_AP --format latex
    python tools/rank.py work_dirs --recipe mask_rcnn_coco_1x --by-seed

A column is a recipe with its data, length, start, protocol, share of the training images and metric.
Contestants with a finished training in all columns are ranked, with the probability that each is better
than each other one. Every two columns are compared by Kendall's tau-b with intervals, and pairs whose
order reverses by more than chance are named. Published figures of at least three of the contestants are
columns of their own.
"""

import argparse
import sys
from pathlib import Path

from evaluation.utils.errors import CommandLine, UserError, command
from evaluation.utils.files import check_output, write_output
from evaluation.utils.formats import whole


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    from evaluation.results.published import PACKAGED
    from evaluation.results.selection import add_choice
    from evaluation.statistics.bootstrap import RESAMPLES
    from evaluation.tables.ranking_tables import FORMATS

    parser = CommandLine(__doc__)
    parser.add_argument(
        'results',
        nargs='*',
        default=['work_dirs'],
        metavar='RESULTS',
        help='folders to search for result.json, at any depth (default: work_dirs)',
    )
    parser.add_argument('--format', choices=FORMATS, default='markdown', help='default: markdown')
    add_choice(parser, 'default: all')
    parser.add_argument(
        '--metric',
        action='append',
        default=[],
        metavar='NAME',
        help='rank by this metric, such as mask_AP; repeat it for a column each (default: the first '
        'metric of each task)',
    )
    parser.add_argument(
        '--by-seed',
        action='store_true',
        help='make each seed a column of its own, instead of averaging over seeds',
    )
    parser.add_argument(
        '--published',
        default=str(PACKAGED),
        metavar='FILE',
        help="published figures to rank as columns, 'none' to omit them (default: those of the suite)",
    )
    parser.add_argument('--plot', type=Path, metavar='FILE', help='also draw a bump chart as PNG')
    parser.add_argument(
        '--resamples',
        type=int,
        default=RESAMPLES,
        help=f'resamples of the images and seeds; default {RESAMPLES}',
    )
    parser.add_argument(
        '--seed', type=whole, default=0, metavar='N', help='random seed of the resamples; default 0'
    )
    parser.add_argument('--output', type=Path, metavar='FILE', help='default: standard output')
    return parser.parse_args()


def rank_places(arguments: argparse.Namespace) -> None:
    """Read the results, rank them, and write text and chart.

    Raises:
        UserError: an option is invalid, or the results cannot be ranked.
    """
    from tqdm import tqdm

    from evaluation.results.published import load_published
    from evaluation.results.reading import load_results
    from evaluation.results.selection import chosen
    from evaluation.statistics.bootstrap import check_resamples
    from evaluation.statistics.comparison import uncertainties
    from evaluation.statistics.ranking import rank
    from evaluation.statistics.ranking_columns import contest_of, finished, gather
    from evaluation.statistics.result_metrics import load_evidence
    from evaluation.tables.ranking_tables import ranking_text

    check_resamples(arguments.resamples)
    published = [] if arguments.published == 'none' else load_published(Path(arguments.published))
    found = chosen(load_results(arguments.results), arguments.task, arguments.recipe)
    results = finished(found)
    if not results:
        raise UserError('no result is of a finished training; evaluate the last checkpoints')
    contest = contest_of(gather(results, arguments.metric, arguments.by_seed))
    contest.check(load_evidence)
    total = len(contest.results) * arguments.resamples
    with tqdm(total=total, desc='resamples', leave=False, disable=None) as bar:
        drawn = uncertainties(contest.results, arguments.resamples, arguments.seed, bar.update)
    ranking = rank(contest, drawn, published, arguments.seed)
    text = ranking_text(ranking, arguments.format)
    if arguments.plot is not None:
        from evaluation.tables.bump_chart import draw_bump_chart

        write_output(arguments.plot, draw_bump_chart(ranking))
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        write_output(arguments.output, text.encode())


@command
def main() -> None:
    """Rank the contestants and write the ranking."""
    arguments = parse_arguments()
    for file in (arguments.output, arguments.plot):
        if file is not None:
            check_output(file)
    if arguments.plot and arguments.output and arguments.plot.resolve() == arguments.output.resolve():
        raise UserError(f'--plot and --output are both {arguments.plot}; give two files')
    if arguments.plot is not None and arguments.plot.suffix.lower() != '.png':
        raise UserError(f'--plot is {arguments.plot}; give a file that ends with .png')
    rank_places(arguments)


if __name__ == '__main__':
    main()
