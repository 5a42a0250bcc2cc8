"""COCO ground truth as a pycocotools object."""

import contextlib
import copy
import io
import json

from pycocotools.coco import COCO


def indexed(truth: dict) -> COCO:
    """Index a copy of a ground truth without output; evaluations modify their input."""
    found = COCO()
    found.dataset = copy.deepcopy(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        found.createIndex()
    return found


def remove_masks(file):
    """Remove the masks of all objects from an annotation file."""
    content = json.loads(file.read_text())
    for entry in content['annotations']:
        del entry['segmentation']
    file.write_text(json.dumps(content))
