"""`tools/check_backbone.py`: lines, exit status, file and error messages."""

import json
import re

import pytest

from evaluation.models.backbone_contract import CHECKS
from tests.commands import ROOT

KIND = 'Tables and other commands'
MEASURED = ('speed', 'memory')
NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8, first=4):
        super().__init__()
        dims = [width * 2**stage for stage in range(4)]
        self.stages = nn.ModuleList(
            nn.Conv2d(in_dim, dim, 3 if stride == 2 else 7, stride, 1 if stride == 2 else 3)
            for in_dim, dim, stride in zip([3, *dims], dims, [first, 2, 2, 2])
        )

    def forward(self, x):
        print('from the network')
        maps = []
        for stage in self.stages:
            x = stage(x).relu()
            maps.append(x)
        return tuple(maps)


class Nothing(Net):
    def __init__(self):
        super().__init__()
        self.missing
"""


@pytest.fixture
def check(commands, tmp_path):
    """Run the command in a folder with a module of a user."""
    (tmp_path / 'my_net.py').write_text(NET)
    return lambda *arguments: commands('check_backbone', *arguments, folder=tmp_path)


def lines_of(outcome):
    """Return status and text by check, and the last line."""
    *lines, last = outcome.stdout.splitlines()
    names = [check.name for check in CHECKS] + list(MEASURED)
    pattern = rf'(ok|FAILED|skipped|note) +({"|".join(names)})  +(.*)'
    matches = [re.fullmatch(pattern, line) for line in lines]
    assert all(matches), outcome.stdout
    assert [match[2] for match in matches] == names
    return {match[2]: (match[1], match[3]) for match in matches}, last


def test_backbone_that_keeps_the_contract(check):
    outcome = check('my_net:Net(width=4)')
    assert outcome.status == 0, outcome.stdout + outcome.stderr[-3000:]
    lines, last = lines_of(outcome)
    assert lines['channels'] == ('ok', '4, 8, 16, 32')
    assert lines['strides'] == ('ok', '4, 8, 16, 32 at 64x64, 97x131, 224x160')
    assert {name for name, (status, _) in lines.items() if status == 'note'} == {
        'layer decay',
        'init_weights',
        'normalization',
        *MEASURED,
    }
    assert re.fullmatch(r'\d+ ok, 0 FAILED, \d skipped, 5 note; \d+ s', last)
    # What networks and libraries print does not mix with the verdicts.
    assert 'from the network' in outcome.stderr


def test_file_has_the_verdicts_of_the_lines(check, tmp_path):
    sizes = ['--size', 64, 96, '--size', 75, 33]
    outcome = check('my_net:Net(first=2)', *sizes, '--seed', 3, '--json', 'verdicts.json')
    assert outcome.status == 1, outcome.stderr[-3000:]
    lines, last = lines_of(outcome)
    found = json.loads((tmp_path / 'verdicts.json').read_text())
    assert (found['backbone'], found['seed']) == ('my_net:Net(first=2)', 3)
    assert found['sizes'] == [[64, 96], [75, 33]]
    by_name = {each['check']: (each['status'], each['text']) for each in found['verdicts']}
    assert by_name == lines
    assert [name for name, (status, _) in lines.items() if status == 'FAILED'] == ['strides']
    assert lines['strides'][1].startswith('map 0 is 32x48 for an image of 64x96 (height x width)')
    assert ', 1 FAILED, ' in last
    figures = {each['check']: each['figures'] for each in found['verdicts']}
    for name, unit in (('speed', 'seconds'), ('memory', 'bytes')):
        ratio = figures[name][unit] / figures[name][f'resnet50_{unit}']
        assert figures[name]['ratio'] == pytest.approx(ratio)
        assert f'{ratio:.2f} times as' in lines[name][1]


def test_backbone_that_cannot_be_built(check):
    outcome = check('my_net:Nothing')
    assert outcome.status == 1
    lines, _ = lines_of(outcome)
    status, text = lines.pop('builds')
    assert status == 'FAILED'
    assert re.search(r"AttributeError: .* no attribute 'missing' \(my_net.py, line 26\)", text)
    assert {status for status, _ in lines.values()} == {'skipped'}
    assert 'Traceback' not in outcome.stdout + outcome.stderr
    assert 'Traceback' in check('my_net:Nothing', '--traceback').stdout


def test_example_of_the_documentation_keeps_the_contract(check, tmp_path):
    text = (ROOT / 'docs/your_backbone.md').read_text()
    (example,) = re.findall(r'<!-- file: my_net.py -->\n```python\n(.*?)```', text, re.S)
    (tmp_path / 'my_net.py').write_text(example)
    outcome = check('my_net:Net(width=16)')
    lines, _ = lines_of(outcome)
    assert outcome.status == 0, outcome.stdout
    assert lines['channels'] == ('ok', '16, 32, 64, 128')


def test_documentation_explains_every_check():
    text = (ROOT / 'docs/your_backbone.md').read_text()
    rows = [line.split('|')[1] for line in text.splitlines() if line.startswith('| `')]
    explained = [name for row in rows for name in re.findall(r'`([^`]+)`', row)]
    for name in [check.name for check in CHECKS] + list(MEASURED):
        assert name in explained, name


class TestBadInput:
    def test_name(self, check, refused):
        outcome = check('swim_micro')
        refused(KIND, 'check_backbone: a misspelled scale', outcome, 'swim_micro', 'swin_micro')

    @pytest.mark.parametrize(
        ('size', 'given', 'message'),
        [
            ((31, 64), 'check_backbone: `--size` below 32 pixels', 'both sides must be at least 32'),
            ((64, 'x'), 'check_backbone: `--size` that is not a number', 'not a whole number from 1'),
            ((64,), 'check_backbone: `--size` with one value', '--help lists the options'),
        ],
    )
    def test_size(self, check, refused, size, given, message):
        refused(KIND, given, check('my_net:Net', '--size', *size), message)

    def test_file(self, check, refused):
        outcome = check('my_net:Net', '--json', 'nowhere/verdicts.json')
        given = 'check_backbone: `--json` in a folder that does not exist'
        refused(KIND, given, outcome, 'nowhere/verdicts.json: ')
        assert outcome.stdout == ''
