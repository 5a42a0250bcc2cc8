"""COCO ground truth as a pycocotools object."""

import contextlib
import copy
import io

from pycocotools.coco import COCO


def indexed(truth: dict) -> COCO:
    """Index a copy of a ground truth without output; evaluations modify their input."""
    found = COCO()
    found.dataset = copy.deepcopy(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        found.createIndex()
    return found
