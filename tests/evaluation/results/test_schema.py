"""The schema of `result.json`, its documentation, and files of all versions."""

import copy
import json
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

from evaluation.results.reading import read_result
from evaluation.results.schema import VERSIONS, check_schema, fields_table, schema
from evaluation.tasks import find_task
from evaluation.utils.errors import UserError
from tests.commands import ROOT
from tests.evaluation.metrics.problems import as_version_2, as_version_3
from tests.evaluation.tables.test_table import document

PAGE = ROOT / 'docs/results.md'


@pytest.mark.parametrize('version', VERSIONS)
def test_schemas_are_valid(version):
    Draft202012Validator.check_schema(schema(version))
    assert schema(version)['properties']['schema_version']['const'] == version


def test_the_page_lists_every_field():
    text = PAGE.read_text()
    table = text[text.index('<!-- fields -->') : text.index('<!-- end of fields -->')]
    assert table == f'<!-- fields -->\n{fields_table(max(VERSIONS))}'


def keys(part, prefix=''):
    """Yield the dotted keys that a schema requires."""
    for name in part.get('required', []):
        yield prefix + name
        yield from keys(part['properties'].get(name, {}), f'{prefix}{name}.')


def whole(version, *arguments, **changes):
    """Return the same evaluation in the form of each version."""
    content = document(*arguments, **changes)
    if version > 1:
        content = as_version_2(content)
    return as_version_3(content) if version == 3 else content


@pytest.mark.parametrize(
    ('version', 'key'), [(version, key) for version in (2, 3) for key in keys(schema(version))]
)
def test_missing_key_is_named(version, key):
    content = copy.deepcopy(whole(version))
    content['evidence'] = {'file': 'evidence.npz', 'sha256': 'e0'}
    check_schema(content)
    *parents, last = key.split('.')
    inner = content
    for parent in parents:
        inner = inner[parent]
    del inner[last]
    with pytest.raises(ValueError, match=f"'{key}' is missing"):
        check_schema(content)


def read(folder, content):
    file = folder / 'result.json'
    file.write_text(json.dumps(content))
    return read_result(file)


def test_old_files_stay_readable(tmp_path):
    result = read(tmp_path, whole(1))
    assert (result.evidence, result.config_sha256, result.data_sha256) == (None, None, None)
    assert read(tmp_path, whole(2)).config_sha256 == 'c0'


@pytest.mark.parametrize('task', ['mask_rcnn', 'upernet', 'imagenet'])
@pytest.mark.parametrize('backbone', ['dcn_tiny', 'r50'])
@pytest.mark.parametrize('variant', [None, 'fair', 'released'])
def test_evaluation_is_the_same_in_every_version(tmp_path, task, backbone, variant):
    changes = {'recipe': variant}
    if task == 'imagenet':
        changes['metrics'] = {'top1': 80.0, 'top5': 95.0}
    first, second, third = (
        read(tmp_path, whole(version, backbone, task, **changes)) for version in VERSIONS
    )
    # Only version 3 states the family.
    own = replace(third.contestant, family=None)
    assert replace(third, contestant=own) == second
    assert third.contestant.family == ('mmdet' if backbone == 'r50' else 'unified')
    later = ('config_sha256', 'data_sha256', 'training_data_sha256', 'batch_size')
    assert replace(second, **dict.fromkeys(later)) == first
    assert (third.task, third.variant) == (find_task(task).key, variant)
    assert third.recipe == find_task(task).earlier.recipe


@pytest.mark.parametrize(
    ('changes', 'complaint'),
    [
        ({'task': 'mask_rcnn'}, "task 'mask_rcnn' is not one of instance_segmentation, semantic"),
        ({'recipe': 'fair'}, "'recipe' is not an object"),
        ({'recipe': {'name': 7}}, "'recipe.name' is not text"),
        ({'recipe': {'images': 0}}, "'recipe.images'"),
        ({'recipe': {'epochs': '12'}}, "'recipe.epochs' is not a whole number or null"),
        ({'recipe': {'images': 10**30}}, "'recipe.images' is too large, a number of 31 digits"),
        ({'recipe': {'title': '\x1b[31m'}}, "'recipe.title' has characters that cannot be printed"),
        ({'recipe': {'variant': '\x1b[31m'}}, "'recipe.variant' has characters that cannot be printed"),
        ({'recipe': {'flops_size': [800]}}, "'recipe.flops_size'"),
        ({'contestant': 'dcn_tiny'}, "'contestant' is not an object"),
        ({'contestant': {'name': None}}, "'contestant.name' is not text"),
        ({'contestant': {'family': 3}}, "'contestant.family' is not text or null"),
        ({'contestant': {'scale': 'a\nb'}}, "'contestant.scale' has characters that cannot be printed"),
    ],
)
def test_violations_of_the_third_version_are_named(tmp_path, changes, complaint):
    content = whole(3)
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    with pytest.raises(UserError, match=r'result\.json') as caught:
        read(tmp_path, content)
    assert complaint in str(caught.value)


@pytest.mark.parametrize('version', [0, 4, 99])
def test_unsupported_versions(tmp_path, version):
    with pytest.raises(UserError, match=f'schema version {version} is unsupported'):
        read(tmp_path, whole(1) | {'schema_version': version})
