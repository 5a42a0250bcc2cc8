"""What `tools/check_data.py` does."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from evaluation.config.file import read_config
from evaluation.config.masks import config_needs_masks, leave_out_unused_masks
from evaluation.data.coco_entries import MISSING_MASKS
from evaluation.data.examination.ade20k import Labels, examine_ade20k
from evaluation.data.examination.coco import examine_coco
from evaluation.data.examination.findings import Examination
from evaluation.data.examination.imagenet import examine_imagenet
from evaluation.data.examination.layouts import ADE20K, COCO, IMAGENET, layout_of
from evaluation.data.examination.links import clear, new_root
from evaluation.data.examination.mending import mend_ade20k, mend_coco, mend_imagenet
from evaluation.utils.errors import UserError, warn


def examine(arguments: argparse.Namespace) -> Examination:
    """Look at the data as the command line asks; write what is good of it, if it asks for that.

    Args:
        arguments: `data_root`, `kind`, `config`, `num_classes`, `keep_zero_label`, `workers` and `fix`.

    Raises:
        UserError: there is no data to look at, or `fix` cannot be written.
    """
    root = arguments.data_root
    layout = layout_of(root, arguments.kind)
    check_options(arguments, layout)
    if not arguments.fix:
        return _examined(arguments, layout)[0]
    with _root_of_links(arguments.fix, root):
        examination, said = _examined(arguments, layout)
    if examination.findings:
        print('\n'.join([f'written to {arguments.fix}:', *(f'  {line}' for line in said), '']))
    else:
        print(f'nothing to mend; {arguments.fix} was not written\n')
    return examination


@contextmanager
def _root_of_links(folder: Path, source: Path) -> Iterator[None]:
    """A folder to write to, which is as it was before where that fails or nothing is written."""
    is_new = new_root(folder, source)
    try:
        yield
    except BaseException:
        clear(folder)
        raise
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def check_options(arguments: argparse.Namespace, layout: str) -> None:
    """Look whether the options belong to the layout.

    Raises:
        UserError: one does not.
    """
    if arguments.num_classes is not None and layout == COCO:
        raise UserError('--num-classes is of ade20k and imagenet; the files of coco list their classes')
    if arguments.config and layout != COCO:
        raise UserError(f'--config is of coco, and this is {layout}; leave it out')
    if arguments.keep_zero_label and layout != ADE20K:
        raise UserError(f'--keep-zero-label is of ade20k, and this is {layout}; leave it out')


def uses_masks(config: str) -> bool:
    """Whether the runs of a config use masks.

    Raises:
        UserError: it cannot be read, or is none of a detector.
    """
    cfg = read_config(config)
    if cfg.get('default_scope') != 'mmdet' or 'model' not in cfg:
        raise UserError(f'--config {config} is not of a detector; leave it out, or give another')
    leave_out_unused_masks(cfg)
    return config_needs_masks(cfg)


def _examined(arguments: argparse.Namespace, layout: str) -> tuple[Examination, list[str]]:
    """The examination, and what `--fix` did."""
    examination = Examination(arguments.data_root, layout)
    if layout == COCO:
        with_masks = uses_masks(arguments.config) if arguments.config else True
        examine_coco(examination, arguments.workers, with_masks)
        if not arguments.config and MISSING_MASKS in examination.by_kind():
            warn('a detector without masks needs no segmentation; give its --config to examine for it')
        is_mended = arguments.fix and examination.findings
        return examination, mend_coco(examination, arguments.fix, with_masks) if is_mended else []
    if layout == IMAGENET:
        good = examine_imagenet(examination, arguments.num_classes, arguments.workers)
        mend = partial(mend_imagenet, num_classes=arguments.num_classes)
    else:
        counted = {} if arguments.num_classes is None else {'num_classes': arguments.num_classes}
        labels = Labels(**counted, reduce_zero_label=not arguments.keep_zero_label)
        good = examine_ade20k(examination, labels, arguments.workers)
        mend = mend_ade20k
    is_mended = arguments.fix and examination.findings
    return examination, mend(examination, good, arguments.fix) if is_mended else []
