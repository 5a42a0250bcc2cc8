"""Check a whole data set before training and list all problems.

    python tools/check_data.py --data-root data/coco
    python tools/check_data.py --data-root data/ade/ADEChallengeData2016
    python tools/check_data.py --data-root data/cityscapes
    python tools/check_data.py --data-root data/boxes --config configs/faster_rcnn_swin_micro.py
    python tools/check_data.py --data-root data/imagenet --format json --output findings.json

Loads every image and every map as training does. No file is changed: fix the problems by hand, or
train with --skip-bad-images, which skips images that cannot be loaded.

Exit status: 0 if there are no problems, 1 if there are, 2 for invalid input, such as missing data.
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from evaluation.data.findings import (
    COCO,
    IMAGENET,
    LAYOUTS,
    Examination,
    as_json,
    as_text,
    layout_of,
)
from evaluation.data.map_layouts import MAP_LAYOUTS
from evaluation.utils.errors import CommandLine, UserError, command, quiet, warn
from evaluation.utils.files import check_output, json_text, user_path, write_output
from evaluation.utils.formats import positive

FINDINGS = 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument(
        '--data-root', type=user_path, required=True, metavar='DIR', help='root folder of the data set'
    )
    parser.add_argument('--kind', choices=LAYOUTS, help='layout (default: detected from the folders)')
    parser.add_argument(
        '--config',
        metavar='FILE',
        help='config of a detector to train on coco; one without masks needs only boxes',
    )
    parser.add_argument(
        '--num-classes',
        type=positive,
        metavar='N',
        help='classes of segmentation maps (default: those of the layout, such as 150 of ade20k) or of '
        'imagenet (default: those that have images)',
    )
    parser.add_argument(
        '--keep-zero-label',
        action='store_true',
        help='class indices in the maps start at 0; in ADE20K, 0 means ignored',
    )
    parser.add_argument(
        '--workers',
        type=positive,
        default=min(8, os.cpu_count() or 1),
        metavar='N',
        help='threads that load images (default: one per core, at most 8)',
    )
    parser.add_argument(
        '--examples',
        type=positive,
        default=3,
        metavar='N',
        help='examples shown per problem (default: 3)',
    )
    parser.add_argument(
        '--format',
        choices=('text', 'json'),
        default='text',
        help='json lists all examples (default: text)',
    )
    parser.add_argument('--output', type=Path, metavar='FILE', help='default: standard output')
    return parser.parse_args()


@command
def main() -> None:
    """Check the data, write the findings, and exit with the status."""
    arguments = parse_arguments()
    with quiet():
        # Some libraries print when they are imported.
        import evaluation.data.examine_coco
        import evaluation.data.examine_imagenet
        import evaluation.data.examine_maps  # noqa: F401

    with contextlib.redirect_stdout(sys.stderr):
        # Fail before the long check, not after it.
        if arguments.output:
            check_output(arguments.output)
        examination = examine(arguments)
    if arguments.format == 'json':
        text = json_text(as_json(examination))
    else:
        text = as_text(examination, arguments.examples) + '\n'
    # File names need not be valid Unicode.
    content = text.encode(errors='backslashreplace')
    if arguments.output:
        write_output(arguments.output, content)
    else:
        sys.stdout.write(content.decode())
    if examination.findings:
        sys.exit(FINDINGS)


def examine(arguments: argparse.Namespace) -> Examination:
    """Examine a data root with the options of the command line.

    Args:
        arguments: parsed options `data_root`, `kind`, `config`, `num_classes`, `keep_zero_label` and
            `workers`.

    Raises:
        UserError: there is no data to examine, or an option does not apply to the layout.
    """
    from evaluation.data.coco_faults import MISSING_MASKS
    from evaluation.data.examine_coco import examine_coco
    from evaluation.data.examine_imagenet import examine_imagenet
    from evaluation.data.examine_maps import examine_maps

    layout = layout_of(arguments.data_root, arguments.kind)
    check_options(arguments, layout)
    examination = Examination(arguments.data_root, layout)
    if layout == COCO:
        with_masks = uses_masks(arguments.config) if arguments.config else True
        examine_coco(examination, arguments.workers, with_masks)
        if not arguments.config and MISSING_MASKS in examination.by_kind():
            warn('a detector without masks needs no segmentation; give its --config to skip this check')
    elif layout == IMAGENET:
        examine_imagenet(examination, arguments.num_classes, arguments.workers)
    else:
        examine_maps(examination, arguments.num_classes, arguments.keep_zero_label, arguments.workers)
    return examination


def check_options(arguments: argparse.Namespace, layout: str) -> None:
    """Check that the options apply to the layout.

    Raises:
        UserError: an option does not apply.
    """
    if arguments.num_classes is not None and layout == COCO:
        raise UserError(
            '--num-classes applies only to segmentation maps and imagenet (coco files list their '
            'classes); omit it'
        )
    if arguments.config and layout != COCO:
        raise UserError(f'--config applies only to coco, but the layout is {layout}; omit it')
    ignoring = [each.name for each in MAP_LAYOUTS.values() if each.reduce_zero_label]
    if arguments.keep_zero_label and layout not in ignoring:
        raise UserError(
            f'--keep-zero-label applies only to {", ".join(ignoring)}, but the layout is {layout}; '
            'omit it'
        )


def uses_masks(config: str) -> bool:
    """Return whether a config uses masks.

    Raises:
        UserError: the config cannot be read, or is not for a detector.
    """
    from evaluation.config.config_files import read_config
    from evaluation.config.masks import config_needs_masks, leave_out_unused_masks

    cfg = read_config(config)
    if cfg.get('default_scope') != 'mmdet' or 'model' not in cfg:
        raise UserError(f'--config {config} is not for a detector; omit it, or give a different one')
    leave_out_unused_masks(cfg)
    return config_needs_masks(cfg)


if __name__ == '__main__':
    main()
