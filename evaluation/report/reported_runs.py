"""Evaluations of a report: order, names, provenance, and problems with files."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

from evaluation.analysis.results import MALFORMED as UNREADABLE
from evaluation.results.result import Result
from evaluation.results.selection import select
from evaluation.tables.columns import tables_of, training_text
from evaluation.utils.errors import UserError, warn

# Errors that readers raise for malformed files.
MALFORMED = (*UNREADABLE, UserError, IndexError, BadZipFile)
# Names of mmengine's folders: the start time of a run, and evaluations during training.
_TIME = re.compile(r'\d{8}_\d{6}')
_STEP = re.compile(r'(epoch|iter)_\d+')
# Texts that distinguish evaluations, in the order in which they are added to equal names.
_PARTS: tuple[Callable[[Result], str], ...] = (
    lambda result: result.start or '',
    lambda result: '' if result.variant is None else f'{result.variant} recipe',
    lambda result: result.config,
    lambda result: '' if result.seed is None else f'seed {result.seed}',
    lambda result: 'TTA' if result.test_time_augmentation else '',
    training_text,
    lambda result: f'{result.images} images',
    lambda result: result.created.strftime('%Y-%m-%d %H:%M:%S'),
    lambda result: str(result.path),
)
# Keys shown elsewhere on the page, or in their own section.
_ELSEWHERE = {
    'schema_version', 'metrics', 'per_class', 'calibration', 'config', 'checkpoint', 'task', 'mixer',
    'scale', 'backbone', 'contestant', 'dataset', 'images', 'epoch', 'iteration', 'max_epochs',
    'max_iterations', 'parameters', 'complexity', 'versions', 'git', 'hardware', 'created',
    'wall_time_seconds', 'seed', 'initialization', 'recipe',
}  # fmt: skip
# For longer lists, only the number of entries is shown.
_LONGEST_LIST = 20


class Problems:
    """Problems, which are printed to stderr at once and listed on the page."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Add a message; ignore repeated ones."""
        message = ' '.join(message.split())
        if message not in self.messages:
            self.messages.append(message)
            warn(message)

    @contextmanager
    def leaving_out(self, file: Path) -> Iterator[None]:
        """Skip a malformed file, and add its name and the reason."""
        try:
            yield
        except MALFORMED as error:
            reason = str(error) if isinstance(error, UserError) else explained(error)
            self.add(f'skipped: {reason if str(file) in reason else f"{file}: {reason}"}')


def explained(error: Exception) -> str:
    """Describe the error of a malformed file."""
    if isinstance(error, KeyError):
        return f'{error.args[0]!r} is missing' if error.args else 'a key is missing'
    if isinstance(error, OSError):
        return f'cannot be read ({error.strerror or error})'
    return f'malformed ({str(error) or type(error).__name__})'


@dataclass(frozen=True)
class ReportedRun:
    """One evaluation on the page.

    Attributes:
        key: id on the page.
        label: name, unique within the group.
        group: task and data set; figures are compared only within a group.
        result: parsed result.
        document: content of the whole file.
        is_selected: whether this is the furthest and newest evaluation of its kind and seed.
        folder: folder of the run.
        started: name of mmengine's folder for this start of the run; None if the result is elsewhere.
    """

    key: str
    label: str
    group: str
    result: Result
    document: Mapping
    is_selected: bool
    folder: Path
    started: str | None


def gather_runs(results: Sequence[Result]) -> list[ReportedRun]:
    """Sort evaluations by group, then as in the tables, and name them.

    Args:
        results: all evaluations found.
    """
    selected = {id(result) for result in select(results, every=False)}
    runs: list[ReportedRun] = []
    for title, alike in tables_of(results):
        for result, label in zip(alike, labels(alike), strict=True):
            folder, started = run_folder(result.path)
            run = ReportedRun(
                key=f'r{len(runs)}',
                label=label,
                group=title,
                result=result,
                document=json.loads(result.path.read_text(encoding='utf-8')),
                is_selected=id(result) in selected,
                folder=folder,
                started=started,
            )
            runs.append(run)
    return runs


def run_folder(file: Path) -> tuple[Path, str | None]:
    """Return the folder of the run of a `result.json`, and the folder name of its start.

    Evaluations during training are in `RUN/START/STEP`, and tests in `RUN/START`. Any other file is
    assumed to be in the folder of its run.
    """
    folder = file.parent
    if _STEP.fullmatch(folder.name) and _TIME.fullmatch(folder.parent.name):
        folder = folder.parent
    if _TIME.fullmatch(folder.name):
        return folder.parent, folder.name
    return file.parent, None


def labels(results: Sequence[Result]) -> list[str]:
    """Return a name for each evaluation: its backbone, and what distinguishes it from the others.

    Args:
        results: results of one task and data set, from different files.
    """
    names = [result.contestant.name for result in results]
    for part in _PARTS:
        counts = Counter(names)
        own = [part(result) for result in results]
        # Add a text only if it differs among evaluations with the same name.
        varied = {
            name
            for name in counts
            if len({text for other, text in zip(names, own, strict=True) if other == name}) > 1
        }
        names = [
            f'{name} {text}'.strip() if name in varied else name
            for name, text in zip(names, own, strict=True)
        ]
    return names


def config_digest(run: ReportedRun) -> str:
    """Return the stored SHA-256 of the config, or that of its text."""
    stated = run.document['config'].get('sha256')
    text = str(run.document['config'].get('text', ''))
    return stated or hashlib.sha256(text.encode()).hexdigest()


def provenance(run: ReportedRun) -> list[dict]:
    """Return sections of the details panel, with rows of name and text; omit missing facts."""
    document, result = run.document, run.result
    sections = {
        'Evaluation': {
            'task': run.group,
            'images': result.images,
            'images skipped': result.images_skipped,
            'test-time augmentation': result.test_time_augmentation,
            'created': document.get('created'),
            'file': str(result.path),
        },
        'Training': {
            'progress': training_text(result),
            'start': result.initialization,
            'recipe': result.recipe.name or None,
            'variant': result.variant,
            'seed': result.seed,
            'wall time (s)': document.get('wall_time_seconds'),
            'iterations': result.iteration,
        },
        'Checkpoint': document.get('checkpoint'),
        'Config': {
            'name': result.config,
            'sha256': config_digest(run),
        },
        'Model': {
            'parameters': result.total_parameters,
            'parameters of the backbone': result.backbone_parameters,
            'FLOPs': result.flops and result.flops.count,
            'FLOPs of an image of': result.flops and f'{result.flops.height}x{result.flops.width}',
        },
        'Code': document.get('git'),
        'Hardware': document.get('hardware'),
        'Versions': document.get('versions'),
        'Further': {name: value for name, value in document.items() if name not in _ELSEWHERE},
    }
    found = [{'title': title, 'rows': _rows(content)} for title, content in sections.items()]
    return [section for section in found if section['rows']]


def _rows(content: object, prefix: str = '') -> list[list[str]]:
    """Return rows of name and text; nested mappings become dotted names."""
    if not isinstance(content, Mapping):
        return []
    rows = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            rows += _rows(value, f'{prefix}{name}.')
        elif value is not None:
            rows.append([f'{prefix}{name}', _text(value)])
    return rows


def _text(value: object) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, list):
        if len(value) > _LONGEST_LIST or any(isinstance(each, (list, Mapping)) for each in value):
            return f'{len(value)} entries'
        return ', '.join(map(str, value)) or 'none'
    return f'{value:,}'.replace(',', ' ') if isinstance(value, int) and value >= 10**5 else str(value)
