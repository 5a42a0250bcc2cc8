"""Measure `tide.json` with the original tool, in a separate environment: pip install tidecv==1.0.1.

PYTHONPATH=. python tests/data/measure_tide.py > tests/data/tide.json
"""

import json
import sys

import tidecv
from pycocotools import mask as coco_mask

from evaluation.benchmark.evaluator_speed import Problem
from tests.evaluation.metrics.tide_problems import problems

KINDS = {'box': tidecv.TIDE.BOX, 'mask': tidecv.TIDE.MASK}


def measure(problem: Problem, kind: str) -> dict:
    """Costs and counts by the tool's short names.

    `costs` is what the tool says. Its mean is also over classes that are only detected.
    `costs_of_present` is over the classes that have objects, from the same precisions of classes.
    """
    truth, found = _data(problem)
    run = tidecv.TIDE(mode=KINDS[kind]).evaluate(truth, found)
    present = {each['class'] for each in truth.annotations if not each['ignore']}
    mains, specials = tidecv.TIDE._error_types, tidecv.TIDE._special_error_types
    fixed = {each: run.fix_errors(lambda error, each=each: isinstance(error, each)) for each in mains}
    fixed[specials[0]] = run.fix_errors(transform=specials[0].fix)
    fixed[specials[1]] = run.fix_errors(false_neg_dict=run.false_negatives)
    before = _mean(run.ap_data, present)
    return {
        'AP50': before,
        'costs': {
            each.short_name: value
            for each, value in {**run.fix_main_errors(), **run.fix_special_errors()}.items()
        },
        'costs_of_present': {
            each.short_name: max(_mean(data, present) - before, 0) for each, data in fixed.items()
        },
        'counts': {each.short_name: count for each, count in run.count_errors().items()},
        'ignored': sum(pred.get('used', True) is None for pred in found.annotations),
    }


def _mean(precisions: 'tidecv.ap.ClassedAPDataObject', present: set[int]) -> float:
    shown = [
        one.get_ap() for name, one in precisions.objs.items() if name in present and not one.is_empty()
    ]
    return sum(shown) / len(shown)


def _data(problem: Problem) -> tuple['tidecv.Data', 'tidecv.Data']:
    truth, found = tidecv.Data('truth'), tidecv.Data('found')
    sizes = {image['id']: (image['height'], image['width']) for image in problem.truth['images']}
    for image in sizes:
        truth.add_image(image, str(image))
    for each in problem.truth['annotations']:
        mask = _code(each['segmentation'], sizes[each['image_id']])
        add = truth.add_ignore_region if each['iscrowd'] else truth.add_ground_truth
        add(each['image_id'], each['category_id'], each['bbox'], mask)
    for image in problem.predictions:
        for corners, label, score, mask in zip(
            image['bboxes'].tolist(),
            image['labels'].tolist(),
            image['scores'].tolist(),
            image['masks'],
            strict=True,
        ):
            left, top, right, bottom = corners
            box = [left, top, right - left, bottom - top]
            found.add_detection(image['img_id'], label + 1, score, box, mask)
    return truth, found


def _code(outline: dict | list, size: tuple[int, int]) -> dict:
    if isinstance(outline, list):
        return coco_mask.merge(coco_mask.frPyObjects(outline, *size))
    return outline


if __name__ == '__main__':
    json.dump(
        {name: {kind: measure(problem, kind) for kind in KINDS} for name, problem in problems()},
        sys.stdout,
        indent=1,
    )
