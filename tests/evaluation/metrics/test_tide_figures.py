"""Error types compared with figures of the original tool, tidecv 1.0.1 (tests/data/measure_tide.py)."""

import json

import numpy as np
import pytest

from evaluation.metrics import resampled_precision as resampled
from evaluation.metrics.instance_matching import collect_instances
from evaluation.metrics.instance_records import average_precision
from evaluation.statistics.error_analysis import CATEGORIES, error_costs, error_counts
from tests.coco_truth import indexed
from tests.commands import ROOT
from tests.evaluation.metrics.tide_problems import problems

MEASURED = json.loads((ROOT / 'tests/data/tide.json').read_text())
# In the order of `CATEGORIES`.
SHORT = ('Cls', 'Loc', 'Both', 'Dupe', 'Bkg', 'Miss', 'FalsePos', 'FalseNeg')
PROBLEMS = dict(problems())


@pytest.fixture(scope='module', params=PROBLEMS)
def problem(request):
    found = PROBLEMS[request.param]
    categories = [category['id'] for category in found.truth['categories']]
    return collect_instances(indexed(found.truth), found.predictions, categories), request.param


@pytest.fixture
def recalls_of_the_tool(monkeypatch):
    """Use the tool's recall 0.35 rather than COCO's 35 * 0.01, which a recall of 7 / 20 misses."""
    monkeypatch.setattr(resampled, 'RECALLS', np.arange(101) / 100)


@pytest.mark.usefixtures('recalls_of_the_tool')
@pytest.mark.parametrize('kind', ['box', 'mask'])
def test_costs_and_counts_equal_the_original_tool(problem, kind):
    evidence, name = problem
    expected = MEASURED[name][kind]
    once = np.ones(len(evidence.images), np.int64)
    assert average_precision(evidence, kind)(once)[f'{kind}_AP50'] == pytest.approx(expected['AP50'])
    assert error_counts(evidence, kind) == {
        category: expected['counts'][short]
        for category, short in zip(CATEGORIES[:6], SHORT[:6], strict=True)
    }
    assert error_costs(evidence, kind)(once) == pytest.approx(
        {
            category: expected['costs_of_present'][short]
            for category, short in zip(CATEGORIES, SHORT, strict=True)
        },
        abs=1e-9,
    )


def test_problems_cover_cases_in_which_implementations_differ():
    """Crowds that swallow detections, overlaps of exactly 0.1 and 0.5, classes without objects."""
    measured = [kind for each in MEASURED.values() for kind in each.values()]
    assert sum(each['ignored'] for each in measured) > 20
    assert all(sum(each['counts'][short] for each in measured) > 5 for short in SHORT[:6])
    alike = [each['costs'] == pytest.approx(each['costs_of_present']) for each in measured]
    assert True in alike
    assert False in alike
