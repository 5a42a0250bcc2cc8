"""The page as a file: self-contained, reproducible, and with names as text only."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbones import PAPER_MIXERS
from evaluation.report.analyses_and_speeds import load_analyses
from evaluation.report.report_page import (
    SCRIPTS,
    Sources,
    build_page,
    json_for_script,
    page_data,
    render_page,
)
from evaluation.report.reported_runs import Problems, gather_runs
from evaluation.results.published import load_published
from evaluation.results.reading import load_results
from tests.commands import ROOT
from tests.evaluation.report.matrix import document, write_matrix, write_run

HOSTILE = '<img src=x onerror=alert(1)></script><!--<script>"\'&amp;`${1}%{x}'


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == 'script':
            self.scripts.append('')
            self._script = len(self.scripts) - 1

    def handle_endtag(self, tag):
        if tag == 'script':
            self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts[self._script] += data


def page(folder, published=()) -> str:
    return build_page([folder], published, 'A title', 0).decode()


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp('small')
    write_run(folder / 'a', document(), lines=20)
    return folder


@given(st.recursive(st.text() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
                    lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=8))  # fmt: skip
def test_json_is_safe_in_a_script(content):
    text = json_for_script({'x': content})
    assert json.loads(text) == {'x': content}
    assert not set('<>&\u2028\u2029') & set(text)


def test_the_same_runs_give_the_same_bytes(small):
    assert page(small) == page(small)


def test_policy_allows_only_own_scripts_and_no_loading(small):
    elements = Elements(page(small))
    (policy,) = [
        a['content'] for t, a in elements.tags if a.get('http-equiv') == 'Content-Security-Policy'
    ]
    rules = dict(rule.strip().split(' ', 1) for rule in policy.split(';'))
    assert rules['default-src'] == "'none'"
    assert rules['img-src'] == 'data: blob:'
    assert 'unsafe' not in rules['script-src']
    assert not {'connect-src', 'font-src', 'frame-src'} & rules.keys()
    run = elements.scripts[-1]
    digest = base64.b64encode(hashlib.sha256(run.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in rules['script-src']
    addresses = [a.get(key) for _, a in elements.tags for key in ('src', 'href') if a.get(key)]
    assert all(address.startswith(('#', 'data:')) for address in addresses)


def sections(folder) -> set[str]:
    return {a['id'] for tag, a in Elements(page(folder)).tags if tag == 'section'}


def test_empty_sections_are_omitted(small, tmp_path):
    assert sections(small) == {'runs', 'cost', 'classes', 'training'}
    bare = document()
    bare['per_class'] = {}
    bare['metrics'] = {name: value for name, value in bare['metrics'].items() if name[-1] not in 'sml'}
    write_run(tmp_path / 'bare', bare)
    assert sections(tmp_path) == {'runs', 'cost'}


def test_reason_for_no_published_figure(tmp_path):
    write_run(tmp_path / 'a', document(initialization='scratch', value=62.25))
    text = page(tmp_path, load_published())
    note = 'Not compared with published figures, because the runs differ. '
    assert f'<li>{note}' in text
    assert 'start scratch, published pretrained.</li>' in text
    assert '>62.3</td>' in text
    assert '>62.2</td>' not in text


def test_names_never_become_markup(tmp_path):
    content = document()
    content |= {'backbone': HOSTILE, 'mixer': HOSTILE, 'scale': HOSTILE, 'dataset': HOSTILE}
    content['config'] = {'name': HOSTILE, 'text': HOSTILE}
    content['per_class'] = {HOSTILE: {HOSTILE: 1.0}}
    content['metrics'] |= {HOSTILE: 1.0}
    write_run(tmp_path / 'run', content)
    plain = Elements(page(tmp_path))
    harmless = document(backbone='x', mixer='x', scale='x', dataset='x')
    write_run(tmp_path / 'other' / 'run', harmless)
    tags = [tag for tag, _ in plain.tags]
    assert tags == [tag for tag, _ in Elements(page(tmp_path / 'other')).tags]
    assert 'img' not in tags
    assert json.loads(plain.scripts[0])['runs'][0]['backbone'] == HOSTILE


def test_all_files_of_the_page_are_in_the_package():
    declared = (ROOT / 'setup.cfg').read_text()
    line = re.search(r'^evaluation\.report = (.+)$', declared, re.MULTILINE)[1]
    patterns = [pattern.strip() for pattern in line.split(',')]
    assert patterns == ['assets/*', 'templates/*']
    assets = {file.name for file in (resources.files('evaluation.report') / 'assets').iterdir()}
    assert assets == {*SCRIPTS, 'page.css'}


def test_a_full_matrix_stays_below_10_megabytes(tmp_path):
    count = write_matrix(tmp_path, lines=300, classes=150, side=224)
    assert count == 12 * len(PAPER_MIXERS)
    problems = Problems()
    runs = gather_runs(load_results([tmp_path]))
    # As large as a photograph of this size; generated scenes are smaller.
    picture = {'image': 'data:image/jpeg;base64,' + 20_000 * 'A', 'text': 'found', 'correct': None}
    pictures = {'groups': {}, 'missing': []}
    for run in runs:
        group = pictures['groups'].setdefault(run.group, {'images': []})
        group['images'] = group['images'] or [
            {
                'name': str(i),
                'truth': picture['image'],
                'size': [320, 240],
                'truthText': '',
                'predictions': {},
            }
            for i in range(3)
        ]
        for image in group['images']:
            image['predictions'][run.key] = picture
    sources = Sources(
        runs,
        load_published(),
        analyses=load_analyses([tmp_path], problems),
        pictures=pictures,
        problems=problems,
    )
    assert len(sources.analyses) == 2 * count
    content = render_page(page_data(sources, 'x'))
    assert not problems.messages
    assert len(content) < 10_000_000
