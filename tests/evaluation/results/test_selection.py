"""Size classes of contestants."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.results.reading import read_result
from evaluation.results.selection import MOST_RATIO, in_order, scale_names, size_classes
from evaluation.tasks import Contestant
from tests.evaluation.metrics.problems import as_version_2, as_version_3
from tests.evaluation.tables.test_table import document


@pytest.fixture(scope='module')
def template(tmp_path_factory):
    file = tmp_path_factory.mktemp('template') / 'result.json'
    file.write_text(json.dumps(as_version_3(as_version_2(document()))))
    return read_result(file)


def contestants(template, *sizes):
    """Return results of contestants given by name, scale and millions of parameters."""
    return [
        replace(
            template,
            contestant=Contestant(name, scale=scale, mixer=name if scale else None),
            total_parameters=round(millions * 1e6),
            backbone_parameters=round(millions * 1e6 / 2),
            path=Path(f'{number}/result.json'),
        )
        for number, (name, scale, millions) in enumerate(sizes)
    ]


# Few distinct values, so that there are many ties.
SIZES = st.lists(
    st.tuples(
        st.sampled_from(['a', 'b', 'c']),
        st.sampled_from([None, None, 'micro', 'tiny', 'small']),
        st.sampled_from([0, 20, 24, 30, 40, 45, 60, 66, 100, 150]),
    ),
    max_size=10,
)


def ratio(a, b):
    return math.exp(abs(math.log(max(a, 1)) - math.log(max(b, 1))))


@given(SIZES, st.randoms())
def test_order_of_results_does_not_matter(template, sizes, random):
    results = contestants(template, *sizes)
    shuffled = random.sample(results, len(results))
    assert size_classes(shuffled) == size_classes(results)
    assert in_order(shuffled) == in_order(results)


@given(SIZES)
def test_every_result_is_in_the_class_of_its_scale_or_near_its_class(template, sizes):
    results = contestants(template, *sizes)
    classes = size_classes(results)
    assert classes.keys() == {result.path for result in results}
    scales = {classes[r.path] for r in results if r.contestant.scale}
    for result in results:
        own, scale = classes[result.path], result.contestant.scale
        if scale:
            assert own.name == scale
            # Count each network once.
            alike = [r for r in results if r.contestant.scale == scale]
            members = [n for _, n in {(r.contestant.name, r.total_parameters) for r in alike}]
            mean = math.exp(math.fsum(math.log(max(n, 1)) for n in members) / len(members))
            assert own.parameters == pytest.approx(mean)
            continue
        distance = ratio(own.parameters, result.total_parameters)
        assert distance <= MOST_RATIO * (1 + 1e-9)
        # No scale is nearer.
        assert all(
            distance <= ratio(each.parameters, result.total_parameters) * (1 + 1e-9) for each in scales
        )
        assert own in scales or own.name == ''


@given(SIZES)
def test_rows_are_ordered_by_size_baselines_first_then_by_mixer(template, sizes):
    results = contestants(template, *sizes)
    classes = size_classes(results)
    rows = in_order(results)
    keys = [(classes[r.path], r.contestant.mixer is not None, r.contestant.mixer or '') for r in rows]
    assert keys == sorted(keys)
    parameters = [key[0].parameters for key in keys]
    assert parameters == sorted(parameters)


@given(st.lists(st.integers(1_000, 10**9), min_size=1, max_size=4), st.floats(0.2, 5, allow_nan=False))
def test_contestant_without_a_scale_joins_one_or_stays_alone(template, members, factor):
    members = sorted(set(members))
    mean = math.exp(math.fsum(math.log(n) for n in members) / len(members))
    sizes = [('swin', 'tiny', n / 1e6) for n in members] + [('r50', None, mean * factor / 1e6)]
    results = contestants(template, *sizes)
    classes = size_classes(results)
    found = ratio(mean, results[-1].total_parameters)
    if found < MOST_RATIO * (1 - 1e-6):
        assert classes[results[-1].path].name == 'tiny'
    elif found > MOST_RATIO * (1 + 1e-6):
        assert classes[results[-1].path].name == ''
        assert classes[results[-1].path].parameters == results[-1].total_parameters


def test_contestants_near_no_scale_may_share_a_class(template):
    results = contestants(
        template, ('swin', 'tiny', 48), ('a', None, 200), ('b', None, 240), ('c', None, 400)
    )
    tiny, a, b, c = (size_classes(results)[result.path] for result in results)
    assert a == b
    assert len({tiny, a, c}) == 3


def test_ties_between_scales_do_not_depend_on_the_order(template):
    sizes = [('r50', None, 48), ('swin', 'tiny', 48), ('swin', 'base', 48)]
    found = {size_classes(contestants(template, *order))[Path(f'{order.index(sizes[0])}/result.json')]
             for order in (sizes, sizes[::-1])}  # fmt: skip
    assert len(found) == 1


def test_names_of_scales_by_size(template):
    results = contestants(
        template,
        ('a', 'large', 100),
        ('b', 'tiny', 30),
        ('a', 'tiny', 200),
        ('c', None, 1),
        ('a', 'xs', 9),
    )
    assert scale_names(results) == ['xs', 'tiny', 'large']
