"""Read the `result.json` that every evaluation leaves, and choose which of them a table shows."""

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from evaluation.errors import UserError
from evaluation.files import read_text

SCHEMA_VERSION = 1

HEADLINE_METRICS = {
    'mask_rcnn': ('box_AP', 'box_AP50', 'box_AP75', 'mask_AP', 'mask_AP50', 'mask_AP75'),
    'upernet': ('mIoU', 'mAcc', 'aAcc'),
    'imagenet': ('top1', 'top5'),
}
TASKS = tuple(HEADLINE_METRICS)

SCALE_ORDER = ('micro', 'tiny', 'small', 'base')
MIXER_ORDER = ('halo', 'pvt', 'swin', 'convnext', 'dcn')

_NULL = type(None)
# Of any count; counts are whole numbers of 64 bits.
LARGEST_NUMBER = 2**63 - 1
# Control characters, which a terminal would obey, and halves of characters.
_UNPRINTABLE = ('Cc', 'Cs')

# Field of `Result`, its place in the file, the JSON types it may have.
_FIELDS = (
    ('task', 'task', (str,)),
    ('mixer', 'mixer', (str, _NULL)),
    ('scale', 'scale', (str, _NULL)),
    ('backbone', 'backbone', (str,)),
    ('dataset', 'dataset', (str,)),
    ('config', 'config.name', (str,)),
    ('checkpoint', 'checkpoint.file', (str, _NULL)),
    ('checkpoint_sha256', 'checkpoint.sha256', (str, _NULL)),
    ('weights_sha256', 'checkpoint.weights_sha256', (str, _NULL)),
    ('epoch', 'epoch', (int, _NULL)),
    ('iteration', 'iteration', (int, _NULL)),
    ('max_epochs', 'max_epochs', (int, _NULL)),
    ('max_iterations', 'max_iterations', (int, _NULL)),
    ('total_parameters', 'parameters.total', (int,)),
    ('backbone_parameters', 'parameters.backbone', (int,)),
    ('seed', 'seed', (int, _NULL)),
    ('images', 'images', (int,)),
    ('initialization', 'initialization', (str, _NULL)),
    ('test_time_augmentation', 'test_time_augmentation', (bool,)),
    ('wall_time_seconds', 'wall_time_seconds', (int, float, _NULL)),
)


@dataclass(frozen=True)
class Training:
    """How far a model was trained: `done` of `total` epochs or iterations, None where unknown."""

    unit: str
    done: int | None
    total: int | None

    @property
    def finished(self) -> bool:
        """Whether the model is known to be at the end of its training."""
        return None not in (self.done, self.total) and self.done >= self.total


@dataclass(frozen=True)
class Flops:
    """Multiply-adds on one image of `height` x `width` pixels, but for `uncounted_operators`."""

    count: int
    height: int
    width: int
    uncounted_operators: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """One evaluation of one checkpoint.

    `metrics` are in percent, None where undefined (no ground truth). `mixer` and `scale` are None
    for a baseline. `flops` are None where they could not be counted, and in files of before they were.
    `images` are those evaluated, without the `images_skipped`. `created` has a time zone. `path` is the
    file that it was read from.
    """

    task: str
    mixer: str | None
    scale: str | None
    backbone: str
    dataset: str
    metrics: Mapping[str, float | None]
    config: str
    checkpoint: str | None
    checkpoint_sha256: str | None
    weights_sha256: str | None
    epoch: int | None
    iteration: int | None
    max_epochs: int | None
    max_iterations: int | None
    total_parameters: int
    backbone_parameters: int
    flops: Flops | None
    seed: int | None
    images: int
    images_skipped: int
    initialization: str | None
    test_time_augmentation: bool
    wall_time_seconds: float | None
    created: datetime
    path: Path

    @property
    def start(self) -> str | None:
        """Whether the backbone started from `scratch` or from other weights, `pretrained`."""
        if self.initialization is None:
            return None
        return 'scratch' if self.initialization == 'scratch' else 'pretrained'

    @property
    def training(self) -> Training:
        """State of training, in epochs where their number was planned, else in iterations."""
        states = (
            Training('epoch', self.epoch, self.max_epochs),
            Training('iter', self.iteration, self.max_iterations),
        )
        # Of equally known states `max` returns the first.
        return max(states, key=lambda state: (state.total is not None, state.done is not None))


def load_results(folders: Iterable[Path | str]) -> list[Result]:
    """Read every `result.json` at any depth below `folders`, each file once.

    Raises:
        UserError: a folder is missing, none holds a `result.json`, or one of them is malformed.
    """
    folders = [Path(folder) for folder in folders]
    files: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f'{folder} is not a folder; give the work_dir of a training run')
        for file in folder.rglob('result.json'):
            files.setdefault(file.resolve(), file)
    if not files:
        raise UserError(
            f'no result.json under {", ".join(map(str, folders))}; '
            'evaluating a checkpoint with tools/test.py writes one'
        )
    return [read_result(file) for file in sorted(files.values())]


def read_result(file: Path) -> Result:
    """Read one `result.json`; numbers that are not finite count as null.

    Raises:
        UserError: the file cannot be read, is not JSON, or does not follow the schema.
    """
    try:
        data = json.loads(
            read_text(file),
            parse_float=_finite_or_none,
            parse_constant=lambda constant: None,
        )
    except OSError as error:
        raise UserError(f'{file}: cannot be read ({error.strerror})') from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f'{file}: not JSON ({error}); evaluate the checkpoint again, or remove the file'
        ) from error
    try:
        return _parse(data, file)
    except ValueError as error:
        raise UserError(
            f'{file}: {error}; evaluate the checkpoint again with this version of the suite, '
            'or remove the file'
        ) from error


def select(results: Sequence[Result], every: bool) -> list[Result]:
    """Choose what a table shows, in the order of its rows.

    Unless `every` is true, one result is kept of each task, backbone, data set, config, kind of start
    and use of test-time augmentation: the one furthest in training, and the newest of those.
    """
    ordered = sorted(results, key=row_order)
    if every:
        return ordered
    # The row order ends with progress, so that the last of a kind is the furthest.
    furthest = {
        (r.task, r.backbone, r.dataset, r.config, r.start, r.test_time_augmentation): r for r in ordered
    }
    return sorted(furthest.values(), key=row_order)


def row_order(result: Result) -> tuple:
    """Return the sort key of a row: baselines first, then scale, mixer, config and progress.

    Mixers and scales that the suite does not know come last, alphabetically.
    """
    return (
        result.mixer is not None,
        _rank(SCALE_ORDER, result.scale),
        _rank(MIXER_ORDER, result.mixer),
        result.backbone,
        result.config,
        result.start == 'pretrained',
        result.test_time_augmentation,
        -1 if result.iteration is None else result.iteration,
        result.created,
        str(result.path),
    )


def _rank(order: Sequence[str], name: str | None) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name or '')


def _finite_or_none(literal: str) -> float | None:
    number = float(literal)
    return number if math.isfinite(number) else None


def _parse(data: object, file: Path) -> Result:
    version = _field(data, 'schema_version', (int,))
    if version != SCHEMA_VERSION:
        raise ValueError(f'schema version {version}, where {SCHEMA_VERSION} is read')
    fields = {name: _field(data, key, types) for name, key, types in _FIELDS}
    if fields['task'] not in TASKS:
        raise ValueError(f'task {fields["task"]!r} is none of {", ".join(TASKS)}')
    if (fields['mixer'] is None) != (fields['scale'] is None):
        raise ValueError("'mixer' and 'scale' must both be given or both be null")
    return Result(
        **fields,
        metrics=_metrics(data, fields['task']),
        flops=_flops(data),
        images_skipped=_images_skipped(data),
        created=_time(_field(data, 'created', (str,))),
        path=file,
    )


def _field(data: object, key: str, types: tuple[type, ...]) -> object:
    """Return the value at a dotted `key`; its type must be exactly one of `types`."""
    value = data
    for part in key.split('.'):
        if type(value) is not dict or part not in value:
            raise ValueError(f'{key!r} is missing')
        value = value[part]
    return _checked(value, key, types)


def _checked(value: object, key: str, types: tuple[type, ...]) -> object:
    # `type` rather than `isinstance`: to the latter, true and false are whole numbers.
    if type(value) not in types:
        names = {str: 'text', int: 'a whole number', float: 'a number', bool: 'true or false'}
        names |= {dict: 'an object', list: 'a list', _NULL: 'null'}
        raise ValueError(f'{key!r} is not {" or ".join(names[kind] for kind in types)}')
    if type(value) is int and abs(value) > LARGEST_NUMBER:
        raise ValueError(f'{key!r} is a number of {len(str(abs(value)))} digits')
    if type(value) is str and any(unicodedata.category(letter) in _UNPRINTABLE for letter in value):
        raise ValueError(f'{key!r} has characters that cannot be printed')
    return value


def _metrics(data: object, task: str) -> dict[str, float | None]:
    given = _field(data, 'metrics', (dict,))
    missing = [name for name in HEADLINE_METRICS[task] if name not in given]
    if missing:
        raise ValueError(f"'metrics.{missing[0]}' is missing")
    metrics = {}
    for name, value in given.items():
        _checked(value, f'metrics.{name}', (int, float, _NULL))
        # A mean of many ones may exceed one by rounding.
        if value is not None and not 0 <= value < 100 + 1e-6:
            raise ValueError(f"'metrics.{name}' is {value}, not a percentage")
        metrics[name] = None if value is None else float(value)
    return metrics


def _flops(data: object) -> Flops | None:
    # Files of before FLOPs were counted have no such key.
    if type(data) is dict and data.get('complexity') is None:
        return None
    count, *size = (_field(data, f'complexity.{key}', (int,)) for key in ('flops', 'height', 'width'))
    operators = _field(data, 'complexity.uncounted_operators', (list,))
    for operator in operators:
        _checked(operator, 'complexity.uncounted_operators', (str,))
    return Flops(count, *size, tuple(operators))


def _images_skipped(data: object) -> int:
    # Files of before images could be skipped have no such key.
    return _field(data, 'images_skipped.count', (int,)) if 'images_skipped' in data else 0


def _time(text: str) -> datetime:
    try:
        # Python 3.10 does not read the suffix Z.
        time = datetime.fromisoformat(text.replace('Z', '+00:00'))
    except ValueError:
        raise ValueError(f"'created' is {text!r}, not an ISO 8601 time") from None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
