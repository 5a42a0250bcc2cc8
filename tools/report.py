"""Write an interactive HTML report of the runs below work_dirs: tables, plots, curves, analyses.

    python tools/report.py -o report.html
    python tools/report.py work_dirs/mask_rcnn_* -o report.html --images 8
    python tools/report.py work_dirs -o report.html --published none --title 'Ablation of windows'

The page is a single file and needs neither a server nor a network. It contains all evaluations (at
first, those of tools/table.py are shown) and the output of tools/benchmark.py --json and
tools/analyze_*.py below the same folders. With --images, it also shows predictions of each model
on the same images, which are drawn once and kept in the work dir.
"""

import argparse
from pathlib import Path

from evaluation.results.published import PACKAGED
from evaluation.utils.errors import CommandLine, command
from evaluation.utils.formats import positive, whole


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    from evaluation.statistics.bootstrap import RESAMPLES

    parser = CommandLine(__doc__)
    parser.add_argument(
        'work_dirs',
        nargs='*',
        type=Path,
        default=[Path('work_dirs')],
        metavar='WORK_DIR',
        help='folders to search for result.json, at any depth (default: work_dirs)',
    )
    parser.add_argument(
        '-o',
        '--output',
        type=Path,
        default=Path('report.html'),
        metavar='FILE',
        help='default: report.html',
    )
    parser.add_argument(
        '--published',
        default=str(PACKAGED),
        metavar='FILE',
        help="published figures to compare with, 'none' to omit them (default: those of the suite)",
    )
    parser.add_argument('--title', help='title of the page')
    parser.add_argument(
        '--images',
        type=positive,
        default=0,
        metavar='N',
        help='run each model on N test images and show its predictions; slow the first time',
    )
    parser.add_argument(
        '--resamples',
        type=whole,
        default=RESAMPLES,
        metavar='N',
        help=f'resamples for intervals and differences; 0 for none (default: {RESAMPLES})',
    )
    return parser.parse_args()


@command
def main() -> None:
    """Read the results, build the page, and write it."""
    arguments = parse_arguments()
    from evaluation.report.report_page import TITLE, build_page
    from evaluation.results.published import load_published
    from evaluation.statistics.bootstrap import check_resamples
    from evaluation.utils.files import check_output, write_output

    check_output(arguments.output)
    if arguments.resamples:
        check_resamples(arguments.resamples)
    published = [] if arguments.published == 'none' else load_published(Path(arguments.published))
    page = build_page(
        arguments.work_dirs,
        published,
        arguments.title or TITLE,
        arguments.images,
        arguments.resamples,
    )
    write_output(arguments.output, page)
    print(f'{arguments.output}: {len(page) / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
