"""Predictions of several models on the same images of their test set, drawn once and then kept."""

import contextlib
import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config
from tqdm import tqdm

from evaluation.config.file import import_modules
from evaluation.config.received import check_received
from evaluation.config.text import read_literals
from evaluation.config.types import check_types
from evaluation.engine.drawing.trained import Trained, load_trained
from evaluation.report.drawn_samples import draw_sample
from evaluation.report.problems import MALFORMED, Problems
from evaluation.report.provenance import config_digest
from evaluation.report.runs import Run
from evaluation.report.training_curves import thinned
from evaluation.results.provenance import weights_sha256
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_json

LOADER = 'test_dataloader'
FOLDER = 'report'
# Part of the digest that names what is kept; to be raised where pictures come out differently.
_VERSION = 2


def gather_pictures(runs: Sequence[Run], count: int, problems: Problems) -> dict:
    """What each model predicts of the same images.

    Args:
        runs: of which the selected ones are drawn.
        count: how many images; fewer where a test set has fewer.
        problems: for folders that cannot be written.

    Returns:
        `groups`, images with truth and predictions, by title; and `missing`, runs and why.
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


def _kept_in(run: Run, count: int) -> Path:
    """Where the pictures of these weights, config and number lie."""
    facts = [_VERSION, run.result.weights_sha256, config_digest(run), count]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return run.folder / FOLDER / f'pictures-{digest[:16]}.json'


def _kept(run: Run, count: int) -> list[dict] | None:
    """What was drawn before, unless an image has changed since; None otherwise."""
    try:
        content = json.loads(_kept_in(run, count).read_text(encoding='utf-8'))
        unchanged = all(_state(path) in (None, state) for path, state in content['sources'])
        return content['images'] if unchanged else None
    except MALFORMED:
        return None


def _state(path: str) -> list[int] | None:
    """Length and time of a file; None where there is none."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns]


def _drawn_anew(run: Run, count: int, problems: Problems) -> list[dict]:
    """Run the model, and keep what is drawn.

    Raises:
        UserError: checkpoint or data are missing, or not what was evaluated.
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
        problems.add(f'{file} cannot be written ({error.strerror}); pictures are drawn anew each time')
    return images


def _load(run: Run) -> Trained:
    """The model and its data, from the config that `result.json` has, of which nothing is run.

    Raises:
        UserError: one of them is missing, or the weights are not those that were evaluated.
    """
    result = run.result
    if result.checkpoint is None:
        raise UserError('evaluated before a checkpoint was written')
    checkpoint = _checkpoint_of(run)
    text = str(run.document['config'].get('text', ''))
    config = Config(read_literals(text, keep_tuples=True))
    if not {'model', LOADER, 'default_scope'} <= {*config}:
        raise UserError(f'{result.path}: its config has no model or no {LOADER}')
    check_received(config, ('model', LOADER))
    import_modules(config, [])
    # To look for a type may import it: only what was looked at above.
    check_types(Config({name: config[name] for name in ('model', LOADER, 'default_scope')}))
    try:
        trained = load_trained(config, result.config, str(checkpoint), LOADER)
    except UserError:
        raise
    except Exception as error:  # A config of other versions: the report must not be lost for it.
        raise UserError(f'its config cannot be built ({type(error).__name__}: {error})') from error
    if result.weights_sha256 not in (None, weights_sha256(trained.model)):
        raise UserError(f'{checkpoint} holds other weights than those that were evaluated')
    return trained


def _checkpoint_of(run: Run) -> Path:
    """The file that was evaluated.

    Raises:
        UserError: it is not in the folder of its run.
    """
    # A name, wherever it may point to.
    name = Path(run.result.checkpoint).name
    for folder in (run.folder, run.result.path.parent):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f'{run.folder / name} is not there')


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Leave out what the libraries say while they load and run."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
