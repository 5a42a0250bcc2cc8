"""Read the `result.json` that every evaluation writes."""

import json
import math
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from evaluation.results.result import Domain, EvidenceFile, Flops, Result
from evaluation.results.schema import check_schema
from evaluation.tasks import TASKS, Contestant, Recipe, find_task
from evaluation.utils.errors import UserError
from evaluation.utils.files import read_text

# Largest count; counts are 64-bit integers.
LARGEST_NUMBER = 2**63 - 1
# Control characters, which affect terminals, and surrogates.
_UNPRINTABLE = ('Cc', 'Cs')
# Fields of `Result` and their keys in the file; a missing key gives None.
_FIELDS = {
    'dataset': 'dataset',
    'config': 'config.name',
    'config_sha256': 'config.sha256',
    'config_sha256_version_1': 'config.sha256_version_1',
    'data_sha256': 'data.sha256',
    'training_data_sha256': 'training_data.sha256',
    'checkpoint': 'checkpoint.file',
    'checkpoint_sha256': 'checkpoint.sha256',
    'weights_sha256': 'checkpoint.weights_sha256',
    'epoch': 'epoch',
    'iteration': 'iteration',
    'max_epochs': 'max_epochs',
    'max_iterations': 'max_iterations',
    'total_parameters': 'parameters.total',
    'backbone_parameters': 'parameters.backbone',
    'batch_size': 'batch_size',
    'mixed_precision': 'mixed_precision',
    'learning_rate_scaled': 'learning_rate_scaled',
    'seed': 'seed',
    'images': 'images',
    'initialization': 'initialization',
    'test_time_augmentation': 'test_time_augmentation',
    'wall_time_seconds': 'wall_time_seconds',
}
_RECIPE_FACTS = (
    'name',
    'title',
    'dataset',
    'images',
    'epochs',
    'iterations',
    'batch_size',
    'start',
    'flops_size',
    'multi_scale',
    'pretraining',
    'protocol',
    'fraction',
    'fraction_seed',
)
_CONTESTANT_FACTS = ('name', 'family', 'mixer', 'scale')


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
    return _with_current_digests([read_result(file) for file in sorted(files.values())])


def _with_current_digests(results: list[Result]) -> list[Result]:
    """Replace digests of earlier versions with the current digest of the same config."""
    known = {result.config_sha256_version_1: result.config_sha256 for result in results}
    known.pop(None, None)
    return [
        replace(result, config_sha256=known.get(result.config_sha256, result.config_sha256))
        for result in results
    ]


def read_result(file: Path) -> Result:
    """Read one `result.json`; non-finite numbers become None.

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
            f'{file}: not JSON ({error}); give a result.json, or evaluate the checkpoint again'
        ) from error
    try:
        return _parse(data, file)
    except ValueError as error:
        raise UserError(
            f'{file}: {error}; evaluate the checkpoint again with this version of the suite, '
            'or remove the file'
        ) from error


def _finite_or_none(literal: str) -> float | None:
    number = float(literal)
    return number if math.isfinite(number) else None


def _parse(data: object, file: Path) -> Result:
    check_schema(data)
    if data['schema_version'] < 3:
        data = _upgraded(data)
    if missing := TASKS[data['task']].missing_metric(data['metrics']):
        raise ValueError(f"'metrics.{missing}' is missing")
    recipe = {name: checked(data['recipe'].get(name), f'recipe.{name}') for name in _RECIPE_FACTS}
    size = recipe.pop('flops_size')
    return Result(
        recipe=Recipe(
            **recipe,
            task=data['task'],
            any_length=bool(data['recipe'].get('any_length')),
            flops_size=tuple(size) if size else None,
        ),
        variant=checked(data['recipe'].get('variant'), 'recipe.variant'),
        contestant=Contestant(
            **{
                name: checked(data['contestant'].get(name), f'contestant.{name}')
                for name in _CONTESTANT_FACTS
            }
        ),
        **{field: checked(_value(data, key), key) for field, key in _FIELDS.items()},
        metrics=_printable(data['metrics'], 'metrics'),
        per_class={
            name: _printable(values, f'per_class.{name}')
            for name, values in _printable(data.get('per_class') or {}, 'per_class').items()
        },
        evidence=_evidence(data.get('evidence'), file),
        flops=_flops(data.get('complexity')),
        images_skipped=(data.get('images_skipped') or {'count': 0})['count'],
        created=time_of(data['created']),
        path=file,
        domain=_domain(data.get('domain')),
        calibration=data.get('calibration') and _printable(data['calibration'], 'calibration'),
    )


def _upgraded(data: dict) -> dict:
    """Convert the content of version 1 or 2, which had one recipe per task, to version 3.

    Raises:
        ValueError: the file has a mixer without a scale, or the reverse.
    """
    if (data['mixer'] is None) != (data['scale'] is None):
        raise ValueError("'mixer' and 'scale' must both be given or both be null")
    task = find_task(data['task'])
    recipe = task.earlier.recipe_of(data.get('max_epochs'))
    return {
        **data,
        'task': task.key,
        'recipe': {**recipe.as_json(), 'variant': data.get('recipe')},
        'contestant': {'name': data['backbone'], 'mixer': data['mixer'], 'scale': data['scale']},
    }


def _value(data: dict, key: str) -> object:
    """Return the value at a dotted key; None if an older file does not have it."""
    for part in key.split('.'):
        data = data.get(part) if isinstance(data, dict) else None
    return data


def checked(value: object, key: str) -> object:
    """Check that a value can be printed and used in computations, and return it.

    Raises:
        ValueError: the value cannot be printed or is too large; the message names the key.
    """
    if type(value) is int and abs(value) > LARGEST_NUMBER:
        raise ValueError(f'{key!r} is too large, a number of {len(str(abs(value)))} digits')
    if type(value) is str and any(unicodedata.category(letter) in _UNPRINTABLE for letter in value):
        raise ValueError(f'{key!r} has characters that cannot be printed')
    return value


def _printable(values: dict, key: str) -> dict:
    """Check that the keys of a dict can be printed, and return the dict."""
    for name in values:
        checked(name, f'{key}.{name}')
    return values


def _flops(complexity: dict | None) -> Flops | None:
    if complexity is None:
        return None
    count, height, width = (
        checked(complexity[key], f'complexity.{key}') for key in ('flops', 'height', 'width')
    )
    operators = complexity['uncounted_operators']
    names = tuple(checked(name, 'complexity.uncounted_operators') for name in operators)
    return Flops(count, height, width, names)


def _evidence(entry: dict | None, file: Path) -> EvidenceFile | None:
    if entry is None:
        return None
    # The file is in the folder of the result; do not follow paths.
    if Path(entry['file']).name != entry['file']:
        raise ValueError(f"'evidence.file' is {entry['file']!r}, not a file name in the same folder")
    return EvidenceFile(file.parent / entry['file'], entry['sha256'])


def _domain(entry: dict | None) -> Domain | None:
    if entry is None:
        return None
    return Domain(*(checked(entry[key], f'domain.{key}') for key in ('suite', 'name')))


def time_of(text: str) -> datetime:
    """Read an ISO 8601 time; the default time zone is UTC.

    Raises:
        ValueError: the text is not an ISO 8601 time.
    """
    try:
        # Python 3.10 does not read the suffix Z.
        time = datetime.fromisoformat(text.replace('Z', '+00:00'))
    except ValueError:
        raise ValueError(f"'created' is {text!r}, not an ISO 8601 time") from None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
