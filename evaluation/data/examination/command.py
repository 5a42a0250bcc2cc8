"""What `tools/check_data.py` does."""

import argparse
import shutil

from evaluation.data.examination.ade20k import Labels, examine_ade20k
from evaluation.data.examination.coco import examine_coco
from evaluation.data.examination.findings import Examination
from evaluation.data.examination.imagenet import examine_imagenet
from evaluation.data.examination.layouts import ADE20K, COCO, IMAGENET, layout_of
from evaluation.data.examination.links import new_root
from evaluation.data.examination.mending import mend_ade20k, mend_coco, mend_imagenet
from evaluation.errors import UserError


def examine(arguments: argparse.Namespace) -> Examination:
    """Look at the data as the command line asks; write what is good of it, if it asks for that.

    Args:
        arguments: `data_root`, `kind`, `num_classes`, `keep_zero_label`, `workers` and `fix`.

    Raises:
        UserError: there is no data to look at, or `fix` cannot be written.
    """
    root = arguments.data_root
    layout = layout_of(root, arguments.kind)
    check_options(arguments, layout)
    if arguments.fix:
        new_root(arguments.fix, root)
    try:
        examination, said = _examined(arguments, layout)
    except BaseException:
        if arguments.fix:
            shutil.rmtree(arguments.fix)
        raise
    if arguments.fix and examination.findings:
        print('\n'.join([f'written to {arguments.fix}:', *(f'  {line}' for line in said), '']))
    elif arguments.fix:
        arguments.fix.rmdir()
        print(f'nothing to mend; {arguments.fix} was not written\n')
    return examination


def check_options(arguments: argparse.Namespace, layout: str) -> None:
    """Look whether the options belong to the layout.

    Raises:
        UserError: one does not.
    """
    if arguments.num_classes is not None and layout == COCO:
        raise UserError('--num-classes is of ade20k and imagenet; the files of coco list their classes')
    if arguments.keep_zero_label and layout != ADE20K:
        raise UserError(f'--keep-zero-label is of ade20k, and this is {layout}; leave it out')


def _examined(arguments: argparse.Namespace, layout: str) -> tuple[Examination, list[str]]:
    """The examination, and what `--fix` did."""
    examination = Examination(arguments.data_root, layout)
    if layout == COCO:
        examine_coco(examination, arguments.workers)
        is_mended = arguments.fix and examination.findings
        return examination, mend_coco(examination, arguments.fix) if is_mended else []
    if layout == IMAGENET:
        good = examine_imagenet(examination, arguments.num_classes, arguments.workers)
        mend = mend_imagenet
    else:
        counted = {} if arguments.num_classes is None else {'num_classes': arguments.num_classes}
        labels = Labels(**counted, reduce_zero_label=not arguments.keep_zero_label)
        good = examine_ade20k(examination, labels, arguments.workers)
        mend = mend_ade20k
    is_mended = arguments.fix and examination.findings
    return examination, mend(examination, good, arguments.fix) if is_mended else []
