"""Checks and stages: outcomes, time limits, and stages that die."""

import importlib
import json
import re
import time

import pytest
import torch

from evaluation.gpu_check import stages
from evaluation.gpu_check.checks import (
    FailedCheckError,
    Settings,
    check_errors,
    largest_error,
    read_outcomes,
)
from evaluation.gpu_check.stages import STAGES, Stage, run_stages
from tests.commands import ROOT

TOY = 'tests.evaluation.gpu_check.toy_stages'
STATUSES = {'good': 'passed', 'bad': 'FAILED', 'absent': 'skipped', 'broken': 'FAILED'}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run toy stages; `ends` says how each ends, None for well."""

    def run(*ends, seconds=30.0, limit=None):
        toys = tuple(Stage(f'toy{number}', TOY, seconds) for number in range(len(ends)))
        monkeypatch.setattr(stages, 'STAGES', toys)
        monkeypatch.setattr(stages, 'CPU_SLOWNESS', 1)
        lines, file = [], tmp_path / 'check.json'
        kinds = iter(ends)

        def say(line):
            # The line of a stage precedes its process.
            if not line.startswith(' '):
                monkeypatch.setenv('TOY_END', next(kinds) or '')
            lines.append(line)

        settings = Settings('cpu', True, tmp_path)
        content = run_stages([toy.name for toy in toys], settings, limit, file, say)
        assert json.loads(file.read_text()) == content
        return content['stages'], lines

    return run


def statuses(stage):
    return {outcome['check']: outcome['status'] for outcome in stage['outcomes']}


def test_stages_that_end_early_do_not_stop_the_others(run):
    found, lines = run('die', None)
    assert [statuses(stage) for stage in found] == [STATUSES, STATUSES]
    assert found[0]['problem'].startswith('ended with status 7')
    assert found[1]['problem'] == ''
    reasons = [outcome['reason'] for outcome in found[1]['outcomes']]
    assert reasons == ['', 'two is not three', 'no such device', 'ZeroDivisionError: no message']
    assert 'crash' in found[1]['outcomes'][3]['traceback']
    assert found[1]['outcomes'][0]['figures'] == {'two': 2}
    assert any('two is not three' in line for line in lines)


def test_a_stage_over_its_limit_is_ended(run):
    start = time.monotonic()
    (found,), _ = run('sleep', seconds=15.0)
    assert time.monotonic() - start < 60
    assert statuses(found) == STATUSES
    assert found['problem'] == 'ran over its limit of 0:15'


def test_a_limit_for_all_stages_leaves_no_time_for_the_last(run):
    found, _ = run('sleep', None, limit=15.0)
    assert [stage['problem'] for stage in found] == ['ran over its limit of 0:15', 'no time was left']
    assert found[1]['outcomes'] == []


def test_limits_add_up_to_nine_minutes():
    assert sum(stage.seconds for stage in STAGES) <= 540
    assert len({stage.name for stage in STAGES}) == len(STAGES)


@pytest.mark.parametrize('stage', STAGES, ids=lambda stage: stage.name)
def test_every_stage_has_checks_and_a_row_in_the_docs(stage, tmp_path):
    module = importlib.import_module(stage.module)
    for is_quick in (False, True):
        names = [check.name for check in module.checks(Settings('cpu', is_quick, tmp_path))]
        assert names
        assert len(set(names)) == len(names)
    page = (ROOT / 'docs/speed.md').read_text()
    assert re.search(rf'^\| `{stage.name}` \| .* \| {stage.seconds} \|$', page, re.MULTILINE)


def test_a_line_that_was_cut_off_is_ignored(tmp_path):
    file = tmp_path / 'outcomes.jsonl'
    assert read_outcomes(file) == []
    whole = '{"check": "a", "status": "passed", "seconds": 1.0}\n'
    file.write_text(whole + '{"check": "b", "stat')
    assert [outcome.check for outcome in read_outcomes(file)] == ['a']


def test_errors_are_relative_to_the_largest_value():
    truth = torch.tensor([4.0, -8.0])
    assert largest_error(truth + torch.tensor([1.0, 0.5]), truth) == 1 / 8
    assert largest_error(torch.zeros(0), torch.zeros(0)) == 0
    for wrong in (truth[:1], torch.tensor([4.0, torch.nan])):
        with pytest.raises(FailedCheckError):
            largest_error(wrong, truth)
    assert check_errors({'a': 0.1, 'b': 0.2}, 0.2)['worst'] == 'b'
    for error in (0.3, float('nan')):
        with pytest.raises(FailedCheckError, match='error of b'):
            check_errors({'a': 0.1, 'b': error}, 0.2)
