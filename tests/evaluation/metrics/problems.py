"""Small evaluations with evidence, and their result files."""

import json

import numpy as np

from evaluation.benchmark.evaluator_speed import generate_problem
from evaluation.metrics.class_records import collect_guesses
from evaluation.metrics.coco_matching import KINDS
from evaluation.metrics.instance_matching import collect_instances
from evaluation.metrics.record_files import write_evidence
from evaluation.statistics.result_metrics import each_image_once, headline_metrics
from evaluation.tasks import TASKS, find_task
from evaluation.utils.files import file_sha256
from tests.coco_truth import indexed
from tests.evaluation.tables.test_table import document


def instance_evidence(images=3, detections=20, classes=3, seed=0, detector=0, kinds=tuple(KINDS)):
    """Return matches of a generated problem; each detector number keeps different detections."""
    problem = generate_problem(images, detections, classes, seed)
    random = np.random.default_rng(detector)
    for prediction in problem.predictions if detector else ():
        kept = np.flatnonzero(random.random(len(prediction['scores'])) < 0.8)
        prediction['masks'] = [prediction['masks'][i] for i in kept]
        for name in ('bboxes', 'scores', 'labels'):
            prediction[name] = prediction[name][kept]
    categories = list(range(1, classes + 1))
    return collect_instances(indexed(problem.truth), problem.predictions, categories, kinds)


def guesses(right, names=None):
    """Return evidence of a classifier that is right on some images."""
    names = names or [f'{number:04}.jpg' for number in range(len(right))]
    return collect_guesses(names, [(0, int(not r), 0 if r else 5) for r in right], ('a', 'b'))


def write_result(folder, evidence, backbone, /, **changes):
    """Write a result of the current version, with evidence and the figures that it determines."""
    task = next(key for key, task in TASKS.items() if isinstance(evidence, task.record_type))
    metrics = headline_metrics(task, evidence)(each_image_once(evidence))
    folder.mkdir(parents=True)
    write_evidence(folder / 'evidence.npz', evidence)
    entry = {'file': 'evidence.npz', 'sha256': file_sha256(folder / 'evidence.npz')}
    earlier = TASKS[task].earlier.key if TASKS[task].earlier else task
    content = document(backbone, earlier, metrics=metrics, images=len(evidence.images))
    content = as_version_3(as_version_2(content)) | {'evidence': entry, **changes}
    (folder / 'result.json').write_text(json.dumps(content))
    return folder / 'result.json'


def as_version_2(content):
    """Add the fields of version 2 to a result of version 1."""
    return content | {
        'schema_version': 2,
        'images_skipped': {'count': 0, 'names': []},
        'evidence': None,
        'config': {**content['config'], 'sha256': 'c0'},
        'data': {'sha256': 'd0'},
        'training_data': {'sha256': 'd1'},
        'training_images_skipped': 0,
        'batch_size': 16,
        'compiled': False,
        'git': {'revision': 'abc', 'dirty': False},
        'evaluation_seconds': 3.0,
        'time_shares': None,
    }


def as_version_3(content):
    """Convert an earlier result to version 3; a custom task gets a custom recipe."""
    content = dict(content)
    task = find_task(content['task'])
    if task.earlier:
        recipe = task.earlier.recipe.as_json()
    else:
        recipe = {'name': task.key, 'title': task.key, 'dataset': content['dataset']}
    network = {'name': content.pop('backbone'), 'family': 'unified' if content['mixer'] else 'mmdet'}
    return content | {
        'schema_version': 3,
        'task': task.key,
        'recipe': {**recipe, 'variant': content['recipe']},
        'contestant': network | {key: content.pop(key) for key in ('mixer', 'scale')},
    }
