"""Folders of tests under distribution shift, with small evidence."""

from evaluation.results.shift_suites import COCO_O
from tests.evaluation.metrics.problems import instance_evidence, write_result


def write_shifted_run(folder, backbone, weights='w', images=(20, 4, 5, 6, 4, 5, 6), **changes):
    """Write a result in distribution and one of each domain; `images` are their numbers of images."""
    checkpoint = {'file': 'last.pth', 'sha256': 'a1', 'weights_sha256': weights}
    places = [(folder, None)] + [(folder / 'coco-o' / name, name) for name in COCO_O.domains]
    for number, ((place, domain), count) in enumerate(zip(places, images, strict=True)):
        own = {'domain': {'suite': 'coco-o', 'name': domain}, 'dataset': f'COCO-O {domain}'}
        write_result(
            place,
            instance_evidence(count, seed=number, detector=len(backbone), kinds=('bbox',)),
            backbone,
            checkpoint=checkpoint,
            data={'sha256': f'data {domain}'},
            **(own if domain else {}),
            **changes,
        )
    return folder
