"""Examination of a data root, for `tools/check_data.py`."""

import argparse

from evaluation.config.config_files import read_config
from evaluation.config.masks import config_needs_masks, leave_out_unused_masks
from evaluation.data.coco_faults import MISSING_MASKS
from evaluation.data.examine_ade20k import Labels, examine_ade20k
from evaluation.data.examine_coco import examine_coco
from evaluation.data.examine_imagenet import examine_imagenet
from evaluation.data.findings import ADE20K, COCO, IMAGENET, Examination, layout_of
from evaluation.utils.errors import UserError, warn


def examine(arguments: argparse.Namespace) -> Examination:
    """Examine a data root with the options of the command line.

    Args:
        arguments: parsed options `data_root`, `kind`, `config`, `num_classes`, `keep_zero_label` and
            `workers`.

    Raises:
        UserError: there is no data to examine, or an option does not apply to the layout.
    """
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
        counted = {} if arguments.num_classes is None else {'num_classes': arguments.num_classes}
        labels = Labels(**counted, reduce_zero_label=not arguments.keep_zero_label)
        examine_ade20k(examination, labels, arguments.workers)
    return examination


def check_options(arguments: argparse.Namespace, layout: str) -> None:
    """Check that the options apply to the layout.

    Raises:
        UserError: an option does not apply.
    """
    if arguments.num_classes is not None and layout == COCO:
        raise UserError(
            '--num-classes applies only to ade20k and imagenet (coco files list their classes); omit it'
        )
    if arguments.config and layout != COCO:
        raise UserError(f'--config applies only to coco, but the layout is {layout}; omit it')
    if arguments.keep_zero_label and layout != ADE20K:
        raise UserError(f'--keep-zero-label applies only to ade20k, but the layout is {layout}; omit it')


def uses_masks(config: str) -> bool:
    """Return whether a config uses masks.

    Raises:
        UserError: the config cannot be read, or is not for a detector.
    """
    cfg = read_config(config)
    if cfg.get('default_scope') != 'mmdet' or 'model' not in cfg:
        raise UserError(f'--config {config} is not for a detector; omit it, or give a different one')
    leave_out_unused_masks(cfg)
    return config_needs_masks(cfg)
