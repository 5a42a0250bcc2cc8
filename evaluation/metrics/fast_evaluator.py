"""COCO evaluation with faster-coco-eval: the same matching and accumulation, in C++."""

from collections.abc import Mapping, Sequence

import numpy as np
from faster_coco_eval import COCO as FastCOCO  # noqa: N811 (an acronym, no constant)
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO

from evaluation.metrics.coco_evaluators import InstanceEvaluation, summary_lines
from evaluation.metrics.coco_matching import SHAPES, mask_areas

# The statistics of pycocotools; the library adds recalls at single overlap thresholds.
STATISTICS = 12

Numbers = Mapping[int | str, int]


def evaluate_fast(
    truth: COCO,
    detections: list[dict],
    images: Sequence[int | str],
    categories: Sequence[int | str],
    kind: str,
) -> InstanceEvaluation:
    """Evaluate with faster-coco-eval; see `InstanceEvaluator`.

    Ids are renumbered from 1, since the library does not support text ids and sorts categories by id.
    pycocotools rasterizes polygons and computes areas, so that both evaluators use the same masks.
    """
    image_numbers = {image: number for number, image in enumerate(sorted(set(images)), start=1)}
    category_numbers = {category: number for number, category in enumerate(categories, start=1)}
    numbers = image_numbers, category_numbers
    frame = {
        'images': [_image(truth, image, number) for image, number in image_numbers.items()],
        'categories': [{'id': number} for number in category_numbers.values()],
    }
    printed: list[str] = []
    evaluation = COCOeval_faster(
        FastCOCO({**frame, 'annotations': _true_objects(truth, *numbers, kind)}),
        FastCOCO({**frame, 'annotations': _found_objects(detections, *numbers, kind)}),
        kind,
        print_function=printed.append,
        # One thread: overlaps take little time, and other processes may need the cores.
        rle_iou_max_workers=1,
    )
    evaluation.run()
    return InstanceEvaluation(
        np.asarray(evaluation.stats),
        evaluation.eval['precision'],
        summary_lines(printed)[:STATISTICS],
    )


def _image(truth: COCO, image: int | str, number: int) -> dict:
    entry = truth.imgs[image]
    return {'id': number, 'height': entry['height'], 'width': entry['width']}


def _true_objects(truth: COCO, images: Numbers, categories: Numbers, kind: str) -> list[dict]:
    """Return the annotations of the given images and categories, with the fields of the evaluation."""
    annotations = (
        annotation
        for image in images
        for annotation in truth.imgToAnns.get(image, ())
        if annotation['category_id'] in categories
    )
    return [
        {
            'id': number,
            'image_id': images[annotation['image_id']],
            'category_id': categories[annotation['category_id']],
            'area': annotation['area'],
            'iscrowd': annotation['iscrowd'],
            SHAPES[kind]: annotation['bbox'] if kind == 'bbox' else truth.annToRLE(annotation),
        }
        for number, annotation in enumerate(annotations, start=1)
    ]


def _found_objects(
    detections: list[dict], images: Numbers, categories: Numbers, kind: str
) -> list[dict]:
    """Return the detections of the given images and categories, with the fields of the evaluation."""
    kept = [d for d in detections if d['image_id'] in images and d['category_id'] in categories]
    shapes = [detection[SHAPES[kind]] for detection in kept]
    areas = (
        mask_areas(shapes).tolist()
        if kind == 'segm'
        else [width * height for *_, width, height in shapes]
    )
    return [
        {
            'id': number,
            'image_id': images[detection['image_id']],
            'category_id': categories[detection['category_id']],
            'score': detection['score'],
            'area': area,
            SHAPES[kind]: shape,
        }
        for number, (detection, shape, area) in enumerate(zip(kept, shapes, areas, strict=True), start=1)
    ]
