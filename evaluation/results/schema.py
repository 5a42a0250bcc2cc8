"""JSON schema of `result.json`: validate files, and list the fields for `docs/results.md`."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

from jsonschema import Draft202012Validator, ValidationError

from evaluation.tasks import TASKS

VERSIONS = (1, 2, 3)
TYPES = {
    'string': 'text',
    'integer': 'a whole number',
    'number': 'a number',
    'boolean': 'true or false',
    'object': 'an object',
    'array': 'a list',
    'null': 'null',
}


def schema(version: int) -> dict:
    """Return the JSON schema of a version, one of `VERSIONS`, with the tasks of the suite."""
    file = Path(__file__).with_name(f'schema_v{version}.json')
    content = json.loads(file.read_text(encoding='utf-8'))
    earlier = [task.earlier.key for task in TASKS.values() if task.earlier]
    content['properties']['task']['enum'] = earlier if version < 3 else [*TASKS]
    return content


def check_schema(data: object) -> None:
    """Validate the content of a file against the schema of its version.

    Raises:
        ValueError: the content does not follow the schema; the message names the first key.
    """
    version = data.get('schema_version') if isinstance(data, dict) else None
    if version is None:
        raise ValueError("'schema_version' is missing")
    # In Python, True equals 1.
    if type(version) is not int:
        raise ValueError("'schema_version' is not a whole number")
    if version not in VERSIONS:
        *others, last = map(str, VERSIONS)
        known = f'{", ".join(others)} and {last}'
        raise ValueError(f'schema version {version} is unsupported (supported: {known})')
    errors = sorted(
        _validator(version, tuple(TASKS)).iter_errors(data), key=lambda error: list(map(str, error.path))
    )
    if errors:
        raise ValueError(_sentence(errors[0]))


@functools.cache
def _validator(version: int, tasks: tuple[str, ...]) -> Draft202012Validator:
    return Draft202012Validator(schema(version))


def _sentence(error: ValidationError) -> str:
    path = [str(part) for part in error.absolute_path]
    if error.validator == 'required':
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f'{_key([*path, missing])} is missing'
    if error.validator == 'type':
        wanted = error.validator_value
        names = [TYPES[name] for name in ([wanted] if isinstance(wanted, str) else wanted)]
        return f'{_key(path)} is not {" or ".join(names)}'
    if error.validator == 'enum':
        return f'{path[-1]} {error.instance!r} is not one of {", ".join(error.validator_value)}'
    if path[0] in ('metrics', 'per_class', 'calibration'):
        return f'{_key(path)} is {error.instance}, not a percentage'
    return f'{_key(path)}: {error.message}'


def _key(path: list[str]) -> str:
    return repr('.'.join(path))


def fields_table(version: int) -> str:
    """Return a Markdown table with key, kind of value and meaning of every field in a schema."""
    lines = ['| key | value | meaning |', '| --- | --- | --- |']
    lines += [f'| `{key}` | {kind} | {meaning} |' for key, kind, meaning in _fields(schema(version))]
    return '\n'.join(lines) + '\n'


def _fields(part: dict, prefix: str = '') -> Iterator[tuple[str, str, str]]:
    for name, field in part.get('properties', {}).items():
        yield prefix + name, _kind(field), field.get('description', '')
        yield from _fields(field, f'{prefix}{name}.')


def _kind(field: dict) -> str:
    if 'const' in field:
        return str(field['const'])
    if 'enum' in field:
        return ', '.join(f'`{value}`' for value in field['enum'])
    kinds = [field['type']] if isinstance(field['type'], str) else field['type']
    return ' or '.join(TYPES[kind] for kind in kinds)
