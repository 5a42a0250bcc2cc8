"""Write a recipe for your own data: look at a folder, split it, check it, and name the next commands.

    python tools/new_dataset.py data/fruit
    python tools/new_dataset.py data/fruit --name fruit_boxes --boxes
    python tools/new_dataset.py data/streets --format masks --ignore 0 255

The folder has images and COCO JSON files, or masks of class values, or Pascal VOC's XML files. No file
in it is changed: annotations that the suite can use are written to DATA_ROOT/dense_mixer_bench/NAME,
and the recipe to configs/_base_/NAME.py. Exit status: 0, or 2 for invalid input.
"""

import argparse
import contextlib
import sys

from evaluation.utils.errors import CommandLine, command, quiet
from evaluation.utils.files import user_path
from evaluation.utils.formats import whole

FORMATS = ('auto', 'coco', 'masks', 'voc')


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument('data_root', type=user_path, metavar='DATA_ROOT', help='folder of the data set')
    parser.add_argument('--name', help='name of the recipe (default: the name of the folder)')
    parser.add_argument(
        '--format', choices=FORMATS, default='auto', help='format of the annotations (default: auto)'
    )
    parser.add_argument(
        '--boxes', action='store_true', help='train on boxes only, even if objects have masks'
    )
    parser.add_argument(
        '--ignore',
        type=value_of_masks,
        nargs='+',
        default=[255],
        metavar='VALUE',
        help='values of masks that mean no class (default: 255)',
    )
    parser.add_argument(
        '--val-share',
        type=share,
        default=0.2,
        metavar='SHARE',
        help='share of the images to validate on, if the data have no split (default: 0.2)',
    )
    parser.add_argument(
        '--seed', type=whole, default=0, metavar='N', help='seed of that split (default: 0)'
    )
    parser.add_argument(
        '--force', action='store_true', help='replace what this command wrote under this name before'
    )
    parser.add_argument(
        '--pages',
        type=user_path,
        metavar='DIR',
        help="folder of recipes to write the page to (default: the suite's configs/_base_)",
    )
    return parser.parse_args()


def value_of_masks(text: str) -> int:
    """Parse a value of 8 bits."""
    return whole(text, most=255)


def share(text: str) -> float:
    """Parse a number between 0 and 1.

    Raises:
        argparse.ArgumentTypeError: the text is anything else.
    """
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f'{text!r} is not a number between 0 and 1')


@command
def main() -> None:
    """Write the data set and its page, and print what was found."""
    arguments = parse_arguments()
    with quiet():
        # Some libraries print when they are imported.
        from evaluation.data.new_dataset import new_dataset
        from evaluation.data.prepared_dataset import Options
        from evaluation.data.recipe_page import PAGES
    options = Options(
        root=arguments.data_root,
        name=arguments.name,
        kind=None if arguments.format == 'auto' else arguments.format,
        boxes=arguments.boxes,
        ignored=arguments.ignore,
        share=arguments.val_share,
        seed=arguments.seed,
        force=arguments.force,
        pages=arguments.pages or PAGES,
    )
    with contextlib.redirect_stdout(sys.stderr):
        text = new_dataset(options)
    sys.stdout.write(text)


if __name__ == '__main__':
    main()
