"""The schema of `result.json`, its documentation, and files of both versions."""

import copy
import json

import pytest
from jsonschema import Draft202012Validator

from evaluation.results.documentation import fields_table
from evaluation.results.reading import read_result
from evaluation.results.validation import VERSIONS, check_schema, schema
from evaluation.utils.errors import UserError
from tests.commands import ROOT
from tests.evaluation.metrics.evidence.problems import as_version_2
from tests.evaluation.tables.test_table import document

PAGE = ROOT / 'docs/results.md'


@pytest.mark.parametrize('version', VERSIONS)
def test_schemas_are_schemas(version):
    Draft202012Validator.check_schema(schema(version))
    assert schema(version)['properties']['schema_version']['const'] == version


def test_the_page_lists_every_field():
    text = PAGE.read_text()
    table = text[text.index('<!-- fields -->') : text.index('<!-- end of fields -->')]
    assert table == f'<!-- fields -->\n{fields_table(max(VERSIONS))}'


def keys(part, prefix=''):
    """Dotted keys that a schema wants."""
    for name in part.get('required', []):
        yield prefix + name
        yield from keys(part['properties'].get(name, {}), f'{prefix}{name}.')


@pytest.mark.parametrize('key', [*keys(schema(2))])
def test_a_missing_key_of_the_second_version_is_named(key):
    content = copy.deepcopy(as_version_2(document()))
    content['evidence'] = {'file': 'evidence.npz', 'sha256': 'e0'}
    check_schema(content)
    *parents, last = key.split('.')
    inner = content
    for parent in parents:
        inner = inner[parent]
    del inner[last]
    with pytest.raises(ValueError, match=f"'{key}' is missing"):
        check_schema(content)


def test_old_files_stay_readable(tmp_path):
    file = tmp_path / 'result.json'
    file.write_text(json.dumps(document()))
    result = read_result(file)
    assert (result.evidence, result.config_sha256, result.data_sha256) == (None, None, None)
    file.write_text(json.dumps(as_version_2(document())))
    assert read_result(file).config_sha256 == 'c0'


@pytest.mark.parametrize('version', [0, 3, 99])
def test_versions_that_are_not_known(tmp_path, version):
    file = tmp_path / 'result.json'
    file.write_text(json.dumps(document() | {'schema_version': version}))
    with pytest.raises(UserError, match=f'schema version {version}, where 1 and 2 are read'):
        read_result(file)
