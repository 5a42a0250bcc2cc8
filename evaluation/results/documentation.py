"""The fields of `result.json` as a table for `docs/results.md`."""

from collections.abc import Iterator

from evaluation.results.validation import TYPES, schema


def fields_table(version: int) -> str:
    """Markdown: key, kind of value and meaning of every field that the schema names."""
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
