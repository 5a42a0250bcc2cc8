"""COCO ground truth as pycocotools represents it."""

import contextlib
import copy
import io

from pycocotools.coco import COCO


def indexed(truth: dict) -> COCO:
    """Return a copy of the ground truth as `COCO`, without output; evaluations change their input."""
    found = COCO()
    found.dataset = copy.deepcopy(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        found.createIndex()
    return found
