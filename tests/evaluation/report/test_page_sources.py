"""Data of the page from benchmarks, published figures, maps and result files."""

import base64
import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from backbones import MIXERS
from evaluation.metrics.class_records import collect_guesses
from evaluation.report.analyses_and_speeds import SIDE, as_data_uri, load_speeds
from evaluation.report.figures_of_runs import published_points
from evaluation.report.image_evidence import weigh
from evaluation.report.report_page import Sources, build_page, page_data
from evaluation.report.reported_runs import Problems, gather_runs
from evaluation.results.published import Entry
from evaluation.results.reading import load_results
from evaluation.results.shifted import shifted_runs
from evaluation.utils.formats import COLORS, mixer_colors
from tests.evaluation.metrics.problems import as_version_2, as_version_3, guesses, write_result
from tests.evaluation.report.matrix import (
    START,
    document,
    scalars,
    write_analyses,
    write_run,
    write_scalars,
)
from tests.evaluation.results.shifted_folders import write_shifted_run


@pytest.fixture
def problems():
    return Problems()


def benchmark(**changes):
    """Return the fields of a file of `tools/benchmark.py --json` that are read."""
    row = {'name': 'mask_rcnn_swin_tiny', 'seconds': [0.030, 0.010, 0.020], 'ran_out_of_memory': False}
    large = {'name': 'mask_rcnn_swin_base', 'seconds': [], 'ran_out_of_memory': True}
    size = {'batch': 2, 'height': 800, 'width': 1280}
    whole = {
        'machine': {'device': 'cuda:0', 'name': 'H100'},
        'dtype': 'bf16',
        'backward': False,
        'compiled': True,
        'scope': 'backbone, neck and heads: on 1000 regions',
        'rounds': 3,
        'results': [{'size': size, 'rows': [row, large]}],
    }
    return whole | changes


class TestSpeeds:
    def test_median_over_rounds_in_milliseconds(self, tmp_path, problems):
        (tmp_path / 'speed.json').write_text(json.dumps(benchmark()))
        (found,) = load_speeds([tmp_path], problems)
        assert found.milliseconds == {'mask_rcnn_swin_tiny': 20.0}
        assert found.condition == (
            'forward, backbone, neck and heads, 2 images of 800x1280, bf16, compiled, H100'
        )

    def test_belongs_to_the_run_of_its_config(self, tmp_path, problems):
        write_run(tmp_path / 'swin', document())
        write_run(tmp_path / 'dcn', document(mixer='dcn'))
        (tmp_path / 'speed.json').write_text(json.dumps(benchmark()))
        runs = gather_runs(load_results([tmp_path]))
        data = page_data(Sources(runs, speeds=load_speeds([tmp_path], problems)), 'x')
        found = {run['mixer']: run['speeds'] for run in data['runs']}
        assert found == {'swin': {'0': 20.0}, 'dcn': {}}

    def test_belongs_to_the_runs_of_its_contestant_and_recipe(self, tmp_path, problems):
        swin, dcn = document(), document(mixer='dcn')
        for name, each in (('swin', swin), ('dcn', dcn)):
            write_run(tmp_path / name, each)
        runs = gather_runs(load_results([tmp_path]))
        row = {'recipe': runs[0].result.recipe.name, 'contestant': 'dcn_tiny'}
        # The name of the benchmarked config file does not matter.
        content = benchmark(experiments={'mask_rcnn_swin_tiny': row})
        (tmp_path / 'speed.json').write_text(json.dumps(content))
        data = page_data(Sources(runs, speeds=load_speeds([tmp_path], problems)), 'x')
        found = {run['mixer']: run['speeds'] for run in data['runs']}
        assert found == {'swin': {}, 'dcn': {'0': 20.0}}

    def test_other_json_files_are_ignored(self, tmp_path, problems):
        (tmp_path / 'other.json').write_text('{"a": 1}')
        (tmp_path / 'list.json').write_text('[')
        assert load_speeds([tmp_path], problems) == []
        assert problems.messages == []

    def test_malformed_benchmark_is_reported(self, tmp_path, problems):
        file = tmp_path / 'speed.json'
        file.write_text(json.dumps(benchmark(results=[{}])))
        assert load_speeds([tmp_path], problems) == []
        assert problems.messages == [f"skipped: {file}: 'size' is missing"]


def test_mixers_have_different_colors():
    names = [*MIXERS, 'hornet', 'van']
    colors = mixer_colors(names)
    assert colors == mixer_colors(reversed(names))
    # None has the last color, which is that of baselines.
    assert len({*colors.values(), COLORS[-1]}) == len(names) + 1


class TestPublished:
    UNIFIED = Entry(
        'swin_tiny', 'mask_rcnn_coco_1x', 'unified', 'a paper', {'box_ap': 44.3, 'mask_ap': 40.5}
    )
    OTHER = Entry('x_tiny', 'upernet_ade20k_160k', 'original', 's', {'miou': 46.0}, flops=9e11)

    def data(self, folder, *documents):
        for number, content in enumerate(documents):
            write_run(folder / str(number), content)
        runs = gather_runs(load_results([folder]))
        return page_data(Sources(runs, published=[self.UNIFIED, self.OTHER]), 'x')

    def test_the_difference_is_ours_minus_theirs_as_printed(self, tmp_path):
        (run,) = self.data(tmp_path, document(value=44.26))['runs']
        assert run['published']['box_AP']['difference'] == 0.0
        assert run['published']['mask_AP']['difference'] == pytest.approx(35.3 - 40.5)

    def test_run_with_a_different_start_has_a_reason_and_no_difference(self, tmp_path):
        (run,) = self.data(tmp_path, document(initialization='scratch'))['runs']
        assert run['published'] == {}
        assert run['notCompared'] == 'start scratch, published pretrained'

    def test_points_are_at_our_cost_or_the_stated_one(self, tmp_path):
        data = self.data(tmp_path, document(), document('upernet'))
        unified, other = data['published']
        assert unified['flops'] == data['runs'][0]['flops']
        assert unified['metrics'] == {'box_AP': 44.3, 'mask_AP': 40.5}
        assert (other['flops'], other['parameters']) == (9e11, None)

    def test_our_cost_is_not_used_for_another_family(self, tmp_path):
        content = as_version_3(as_version_2(document()))
        content['contestant']['family'] = 'mmdet'
        assert self.data(tmp_path, content)['published'] == []

    def test_all_recipes_of_a_group_have_points(self, tmp_path):
        """This must not depend on the recipe of the first row."""
        own = as_version_3(as_version_2(document(mixer='dcn')))
        own['recipe'] |= {'name': 'my_recipe'}
        points = self.data(tmp_path, own, document())['published']
        assert [point['model'] for point in points] == ['swin_tiny']

    def test_points_have_a_family_and_the_recipe_of_a_run(self, tmp_path):
        entries = [
            self.UNIFIED,
            replace(self.UNIFIED, model='a', architecture='original', parameters=5e7, family='f'),
            replace(self.UNIFIED, model='b', architecture='original', parameters=5e7, multi_scale=True),
            replace(self.UNIFIED, model='c', architecture='original'),
        ]
        write_run(tmp_path / 'run', document())
        runs = gather_runs(load_results([tmp_path]))
        points = published_points(entries, {'title': runs})
        assert [(point['model'], point['family']) for point in points] == [
            ('swin_tiny', 'unified'),
            ('a', 'f'),
        ]
        scratch = replace(runs[0], result=replace(runs[0].result, initialization='scratch'))
        assert published_points(entries, {'title': [scratch]}) == []

    def test_an_original_network_is_at_the_cost_of_our_run(self, tmp_path):
        content = as_version_3(as_version_2(document()))
        content['contestant'] |= {'family': 'original', 'name': 'original_swin_tiny'}
        write_run(tmp_path / 'run', content)
        runs = gather_runs(load_results([tmp_path]))
        entry = replace(
            self.UNIFIED, model='original_swin_tiny', architecture='original', parameters=1.0, flops=2.0
        )
        (point,) = published_points([entry], {'title': runs})
        own = runs[0].result
        assert (point['parameters'], point['flops']) == (own.total_parameters, own.flops.count)

    def test_flops_at_a_different_image_size_are_left_out(self, tmp_path):
        write_run(tmp_path / 'run', document())
        runs = gather_runs(load_results([tmp_path]))
        facts = {'model': 'a', 'architecture': 'original', 'flops': 1e11, 'parameters': 5e7}
        for size, flops in (((800, 1280), 1e11), ((640, 640), None)):
            entry = replace(self.UNIFIED, flops_size=size, **facts)
            (point,) = published_points([entry], {'title': runs})
            assert (point['flops'], point['parameters']) == (flops, 5e7)

    def test_no_point_for_a_different_data_set(self, tmp_path):
        assert self.data(tmp_path, document(dataset='my data'))['published'] == []


class TestMaps:
    def picture(self, mean):
        content = base64.b64decode(as_data_uri(mean).partition(',')[2])
        return np.asarray(Image.open(io.BytesIO(content)).convert('RGB')).astype(int)

    def test_largest_is_light_and_below_a_ten_thousandth_is_black(self):
        mean = np.full((8, 8), 1e-6)
        mean[4, 4], mean[2, 2] = 1.0, 0.01
        picture = self.picture(mean)
        assert picture.shape == (8, 8, 3)
        assert picture[4, 4].min() > 180
        assert picture[0, 0].max() < 10
        assert picture[0, 0].sum() < picture[2, 2].sum() < picture[4, 4].sum()

    def test_large_maps_become_means_of_blocks(self):
        mean = np.full((224, 224), 1e-9)
        mean[:3, :3] = 1.0
        picture = self.picture(mean)
        assert max(picture.shape) <= SIDE
        assert picture[0, 0].min() > 180
        assert picture[1, 1].max() < 10

    @pytest.mark.parametrize('mean', [np.zeros((4, 4)), np.full((4, 4), np.nan), np.ones(4)])
    def test_invalid_map_is_refused(self, mean):
        with pytest.raises(ValueError, match='map'):
            as_data_uri(mean)


def test_pages_of_schema_versions_1_and_3_are_the_same(tmp_path):
    documents = [
        document(),
        document(mixer='dcn', scale='small', recipe='fair'),
        document('upernet'),
        document(mixer=None, scale=None, backbone='r50'),
    ]
    shown = []
    for upgrade in (lambda content: content, lambda content: as_version_3(as_version_2(content))):
        for number, content in enumerate(documents):
            file = tmp_path / f'{number}/{START}/epoch_12/result.json'
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(upgrade(content)))
        shown.append(page_data(Sources(gather_runs(load_results([tmp_path]))), 'x'))
    first, third = shown
    assert [run['label'] for run in third['runs']] == [
        'r50',
        'swin_tiny',
        'dcn_small',
        'swin_tiny',
    ]
    for key in ('groups', 'runs', 'colors', 'scales', 'labels', 'published'):
        assert first[key] == third[key]
    assert third['scales'] == ['tiny', 'small']
    assert [*third['colors']] == ['dcn', 'swin']
    rows = {name: text for part in third['details']['r2']['sections'] for name, text in part['rows']}
    assert (rows['recipe'], rows['variant']) == ('mask_rcnn_coco_1x', 'fair')


def test_details_show_keys_of_later_versions(tmp_path):
    file = write_run(tmp_path / 'run', document())
    content = json.loads(file.read_text())
    content['data'] = {'sha256': 'd4' * 32, 'files': [{'a': 1}]}
    content['something'] = 'new'
    file.write_text(json.dumps(content))
    data = page_data(Sources(gather_runs(load_results([tmp_path]))), 'x')
    rows = {name: text for part in data['details']['r0']['sections'] for name, text in part['rows']}
    assert rows['data.sha256'] == 'd4' * 32
    assert rows['data.files'] == '1 entries'
    assert rows['something'] == 'new'
    assert rows['weights_sha256'] == 'swin_tinymask_rcnn'


def test_files_with_extreme_numbers_or_nesting_are_skipped_by_name(tmp_path, capsys):
    """The page is written with everything else, and lists each skipped file."""
    run = tmp_path / 'run'
    write_run(run, document())
    write_analyses(run, 'swin_tinymask_rcnn')
    steps = [scalars(step, loss=loss) for step, loss in ((1, 10**400), (2, 1.5), (3, 1.7976931e308))]
    log = write_scalars(run, START, [*steps[:1], '[' * 200_000, *steps[1:]])
    row = {'name': 'mask_rcnn_swin_tiny', 'ran_out_of_memory': False}
    size = {'batch': 1, 'height': 8, 'width': 8}
    odd = {}
    for name, seconds in (('nan', [math.nan]), ('infinite', [math.inf]), ('huge', [10**400])):
        results = [{'size': size, 'rows': [{**row, 'seconds': seconds}]}]
        odd[name] = tmp_path / f'{name}.json'
        odd[name].write_text(json.dumps(benchmark(results=results)))
    odd['deep'] = run / 'analysis' / 'deep.json'
    odd['deep'].write_text('[' * 200_000)
    odd['budget'] = run / 'analysis' / 'budget.json'
    content = json.loads((run / 'analysis' / 'robustness.json').read_text())
    content['columns']['figures'] = {'mPC': 10**400}
    odd['budget'].write_text(json.dumps(content))

    page = build_page([tmp_path], [], resamples=0).decode()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert data['curves'][0]['training']['loss'] == {'x': [1, 2, 3], 'y': [None, 1.5, None]}
    assert {each['kind'] for each in data['analyses']} == {'erf', 'robustness'}
    assert data['speeds'] == []
    named = {*odd.values(), log}
    assert len(data['problems']) == len(named)
    assert {file for file in named for line in data['problems'] if str(file) in line} == named
    assert capsys.readouterr().err.count('skipped: ') == len(named)


def sections(content):
    return set(re.findall(r'<section id="(\w+)"', content.decode()))


def test_calibration_of_runs_with_confidences(tmp_path):
    evidence = collect_guesses(['1', '2'], [(0, 0, 0), (0, 1, 5)], ('a', 'b'), [0.9, 0.9])
    write_result(tmp_path / 'a', evidence, 'swin_tiny')
    write_result(tmp_path / 'b', guesses([True, False]), 'dcn_tiny')
    runs, problems = gather_runs(load_results([tmp_path])), Problems()
    data = page_data(Sources(runs, evidence=weigh(runs, 0, problems), problems=problems), 'x')
    found = {run['mixer']: run['calibration'] for run in data['runs']}
    half = {'share': 1.0, 'confidence': pytest.approx(0.9), 'outcome': 0.5}
    expected = {'value': pytest.approx(40), 'low': None, 'high': None, 'bins': [half]}
    assert found == {'swin': {'ECE': expected}, 'dcn': {}}
    assert problems.messages == []
    assert 'calibration' in sections(build_page([tmp_path], [], resamples=0))


def test_tests_under_shift_have_a_section_and_no_row(tmp_path):
    folder = write_shifted_run(tmp_path / 'a', 'swin_tiny')
    page = build_page([tmp_path], [], resamples=0)
    assert 'shift' in sections(page)
    (run,) = shifted_runs(load_results([tmp_path]))
    text = page.decode()
    assert f'<td class="number">{run.mean:.1f}</td>' in text
    assert text.count('<tr data-key=') == 1
    (folder / 'coco-o/sketch/result.json').unlink()
    page = build_page([tmp_path], [], resamples=0)
    assert 'shift' not in sections(page)
    assert 'lacks the result of sketch' in page.decode()
