"""Predictions of several models on the same images of their test set, drawn once and cached."""

import base64
import contextlib
import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from tqdm import tqdm

from evaluation.config.config_files import import_modules
from evaluation.config.config_text import check_received, read_literals
from evaluation.config.settings import check_types
from evaluation.engine.drawing import (
    UNLABELED,
    Color,
    color_classes,
    draw_instances,
    draw_segmentation,
)
from evaluation.engine.predictor import SCORE_THRESHOLD, Trained, load_trained
from evaluation.report.reported_runs import MALFORMED, Problems, ReportedRun, config_digest
from evaluation.report.training_curves import thinned
from evaluation.results.description import weights_sha256
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_json

# Length of the longer side in pixels; smaller images are enlarged.
SIDE = 320
QUALITY = 78
GUESSES = 3
LOADER = 'test_dataloader'
FOLDER = 'report'
# Part of the digest that names cached pictures; increase it when pictures change.
_VERSION = 2


def draw_sample(trained: Trained, index: int) -> dict:
    """Draw one image.

    Args:
        trained: model and test set.
        index: index of the image.

    Returns:
        `shown`: the image with its ground truth, the same for all models. `prediction`: a picture and a
        line of text; without a picture if nothing is drawn, as in classification.

    Raises:
        UserError: the image cannot be read.
    """
    sample = trained.predict(index)
    image = _resized(trained.image(index))
    if 'pred_instances' in sample:
        truth, found, *texts = _instances(image, sample, trained)
    elif 'pred_sem_seg' in sample:
        truth, found, *texts = _segments(image, sample, trained)
    else:
        return _classified(image, sample, trained)
    height, width = image.shape[:2]
    return {
        'shown': {'truth': as_jpeg(truth), 'size': [width, height], 'truthText': texts[0]},
        'prediction': {'image': as_jpeg(found), 'text': texts[1], 'correct': None},
    }


def as_jpeg(image: np.ndarray) -> str:
    """Encode a picture, (H, W, 3) uint8 RGB, as a data URI."""
    content = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return 'data:image/jpeg;base64,' + base64.b64encode(content.tobytes()).decode()


def _resized(image: np.ndarray) -> np.ndarray:
    factor = SIDE / max(image.shape[:2])
    size = [max(1, round(length * factor)) for length in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _instances(image: np.ndarray, sample: Any, trained: Trained) -> tuple:
    truth, found = sample.gt_instances, sample.pred_instances
    found = found[found.scores >= SCORE_THRESHOLD]
    height, width = image.shape[:2]
    palette = _palette(trained)

    factors = np.array([width / sample.ori_shape[1], height / sample.ori_shape[0]] * 2)

    def drawn(masks: np.ndarray | None, instances: Any, scores: np.ndarray | None) -> np.ndarray:
        # Detectors without masks have boxes to draw but no area to color.
        if masks is None:
            masks = np.zeros((len(instances), height, width), bool)
        small = [
            cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
            for mask in masks
        ]
        return draw_instances(
            image,
            np.array(small, bool).reshape(-1, height, width),
            instances.bboxes.numpy() * factors,
            instances.labels.numpy(),
            scores,
            trained.classes,
            palette,
        )

    return (
        drawn(truth.masks.to_ndarray() if 'masks' in truth else None, truth, None),
        drawn(found.masks.numpy() if 'masks' in found else None, found, found.scores.numpy()),
        _counted(len(truth), 'object'),
        f'{len(found)} found with a score of at least {SCORE_THRESHOLD}',
    )


def _segments(image: np.ndarray, sample: Any, trained: Trained) -> tuple:
    truth, found = sample.gt_sem_seg.data[0].numpy(), sample.pred_sem_seg.data[0].numpy()
    palette, size = _palette(trained), image.shape[1::-1]
    labeled = truth != UNLABELED
    right = np.mean(truth[labeled] == found[labeled]) if labeled.any() else None
    pictures = [
        draw_segmentation(
            image,
            cv2.resize(each.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST),
            palette,
        )
        for each in (truth, found)
    ]
    present = [trained.classes[label] for label in np.unique(truth[labeled])]
    return (
        *pictures,
        ', '.join(present),
        'no labeled pixels' if right is None else f'{100 * right:.1f} % of the labeled pixels correct',
    )


def _classified(image: np.ndarray, sample: Any, trained: Trained) -> dict:
    height, width = image.shape[:2]
    scores = sample.pred_scores.numpy()
    order = np.argsort(-scores, kind='stable')[:GUESSES]
    label = int(sample.gt_label)
    return {
        'shown': {
            'truth': as_jpeg(image),
            'size': [width, height],
            'truthText': trained.classes[label],
        },
        'prediction': {
            'image': None,
            'text': ', '.join(f'{trained.classes[i]} {100 * scores[i]:.0f} %' for i in order),
            'correct': bool(order[0] == label),
        },
    }


def _palette(trained: Trained) -> Sequence[Color]:
    """Return the colors of the data set, or default ones if it has none."""
    own = trained.dataset.metainfo.get('palette')
    if own is not None and len(own) == len(trained.classes):
        return [tuple(color) for color in own]
    return list(color_classes(trained.classes, {}).values())


def _counted(number: int, name: str) -> str:
    return f'{number} {name}{"" if number == 1 else "s"}'


def gather_pictures(runs: Sequence[ReportedRun], count: int, problems: Problems) -> dict:
    """Draw the predictions of each model on the same images.

    Args:
        runs: runs, of which the selected ones are drawn.
        count: number of images; fewer if a test set has fewer.
        problems: collects folders that cannot be written.

    Returns:
        `groups`: images with ground truth and predictions, by title. `missing`: runs without pictures,
        and why.
    """
    groups: dict[str, dict[str, dict]] = {}
    missing = []
    selected = [run for run in runs if run.is_selected]
    for run in tqdm(selected, desc='predictions', unit='model', disable=None):
        try:
            drawn = _kept(run, count) or _drawn_anew(run, count, problems)
        except UserError as error:
            missing.append({'run': run.key, 'reason': str(error)})
            continue
        images = groups.setdefault(run.group, {})
        for each in drawn:
            image = images.setdefault(each['name'], {**each['shown'], 'predictions': {}})
            image['predictions'][run.key] = each['prediction']
    return {
        'groups': {
            title: {'images': [{'name': name, **image} for name, image in images.items()]}
            for title, images in groups.items()
        },
        'missing': missing,
    }


def _kept_in(run: ReportedRun, count: int) -> Path:
    """Return the cache file of `count` pictures for the weights and config of a run."""
    facts = [_VERSION, run.result.weights_sha256, config_digest(run), count]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return run.folder / FOLDER / f'pictures-{digest[:16]}.json'


def _kept(run: ReportedRun, count: int) -> list[dict] | None:
    """Return cached pictures; None if there are none or an image has changed since."""
    try:
        content = json.loads(_kept_in(run, count).read_text(encoding='utf-8'))
        unchanged = all(_state(path) in (None, state) for path, state in content['sources'])
        return content['images'] if unchanged else None
    except MALFORMED:
        return None


def _state(path: str) -> list[int] | None:
    """Return the size and modification time of a file; None if it does not exist."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns]


def _drawn_anew(run: ReportedRun, count: int, problems: Problems) -> list[dict]:
    """Run the model and cache its pictures.

    Raises:
        UserError: the checkpoint or data are missing, or differ from those evaluated.
    """
    with _silence():
        trained = _load(run)
        images, sources = [], []
        for index in thinned(len(trained.dataset), count):
            path = trained.dataset.get_data_info(index)['img_path']
            sources.append([path, _state(path)])
            images.append(
                {'name': f'{Path(path).name}, image {index + 1}', **draw_sample(trained, index)}
            )
    file = _kept_in(run, count)
    try:
        write_json(file, {'sources': sources, 'images': images})
    except OSError as error:
        problems.add(f'{file} cannot be written ({error.strerror}); pictures are not cached')
    return images


def _load(run: ReportedRun) -> Trained:
    """Load the model and its data from the config in `result.json`, without executing that config.

    Raises:
        UserError: one of them is missing, or the weights differ from those evaluated.
    """
    result = run.result
    if result.checkpoint is None:
        raise UserError('evaluated before a checkpoint was written')
    checkpoint = _checkpoint_of(run)
    text = str(run.document['config'].get('text', ''))
    config = Config(read_literals(text, keep_tuples=True))
    if not {'model', LOADER, 'default_scope'} <= {*config}:
        raise UserError(f'the config in {result.path} has no model or no {LOADER}')
    check_received(config, ('model', LOADER))
    import_modules(config, [])
    # Looking up a type may import it, so look only at the keys checked above.
    check_types(Config({name: config[name] for name in ('model', LOADER, 'default_scope')}))
    try:
        trained = load_trained(config, result.config, str(checkpoint), LOADER)
    except UserError:
        raise
    except (
        Exception
    ) as error:  # Configs of other versions may fail in any way; the report continues without them.
        raise UserError(f'its config cannot be built ({type(error).__name__}: {error})') from error
    if result.weights_sha256 not in (None, weights_sha256(trained.model)):
        raise UserError(f'{checkpoint} has different weights than those evaluated')
    return trained


def _checkpoint_of(run: ReportedRun) -> Path:
    """Return the checkpoint that was evaluated.

    Raises:
        UserError: the checkpoint is not in the folder of its run.
    """
    # Use only the name, since the stored path may point anywhere.
    name = Path(run.result.checkpoint).name
    for folder in (run.folder, run.result.path.parent):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f'{run.folder / name} is missing')


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence library output while loading and running."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
