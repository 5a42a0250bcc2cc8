"""COCO's evaluation by faster-coco-eval: the same matching and accumulation, in C++."""

from collections.abc import Mapping, Sequence

import numpy as np
from faster_coco_eval import COCO as FastCOCO  # noqa: N811 (an acronym, no constant)
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO

from evaluation.metrics.coco_evaluators import InstanceEvaluation, summary_lines
from evaluation.metrics.coco_matching import SHAPES, mask_areas

# As many as pycocotools has; the library adds recalls at single thresholds of overlap.
STATISTICS = 12

Numbers = Mapping[int | str, int]


def evaluate_fast(
    truth: COCO,
    detections: list[dict],
    images: Sequence[int | str],
    categories: Sequence[int | str],
    kind: str,
) -> InstanceEvaluation:
    """Evaluate as `InstanceEvaluator` says.

    The library is given ids that count from 1: it takes no text for an id, and puts categories out by
    their ids. Outlines are rasterized and areas counted by pycocotools, so that both see the same.
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
        # One thread: the overlaps take little, and another process may want the core.
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
    """The annotations of some images and categories, with all that the evaluation reads of one."""
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
    """The detections of some images and categories, with all that the evaluation reads of one."""
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
