"""Every task is complete; pages declare recipes of known tasks, and leaves declare contestants."""

import functools
import json
import re
import subprocess
import sys

import pytest
from mmengine.registry import MODELS

from backbones import MIXERS
from evaluation.config.config_files import read_config
from evaluation.config.recipe import contestant_of, recipe_of
from evaluation.metrics.records import Evidence
from evaluation.results.published import load_published
from evaluation.results.reading import read_result
from evaluation.tables.columns import metric_column, printed
from evaluation.tasks import TASKS, Contestant, find_metric, find_task
from tests.commands import ROOT
from tests.evaluation.metrics.problems import as_version_2, as_version_3
from tests.evaluation.tables.test_table import document

every_task = pytest.mark.parametrize('task', TASKS.values(), ids=TASKS)


def figures(task):
    """Return the metrics of a result of a task."""
    return {name: 10.0 + place for place, name in enumerate(task.headlines)}


@every_task
def test_metrics_are_complete(task):
    assert TASKS[task.key] is task
    assert task.primary
    assert {metric.digits for metric in task.metrics} == {task.digits}
    for metric in task.metrics:
        # Tasks that use the same name share the metric.
        assert find_metric(metric.name) == metric
        assert metric_column(metric.name).heading == metric.heading
    assert str(printed(12.3456, task.key)) == f'{12.3456:.{task.digits}f}'


@every_task
def test_references_resolve(task):
    assert issubclass(task.record_type, Evidence)
    assert callable(task.analysis_adapter.of)


def pages():
    """Return the pages of `configs/_base_` that declare a recipe or change an imported one."""
    files = (ROOT / 'configs/_base_').glob('*.py')
    return sorted(file.stem for file in files if re.search(r'^recipe\b', file.read_text(), re.MULTILINE))


def leaves():
    """Return the configs that can be trained."""
    return [
        file for place in ('configs', 'configs/demo') for file in sorted((ROOT / place).glob('*.py'))
    ]


# Pages whose data are generated scenes.
GENERATED = ('demo_', 'check_gpu_')


@functools.cache
def page(name):
    return read_config(str(ROOT / f'configs/_base_/{name}.py'))


@pytest.mark.parametrize('name', pages())
def test_pages_declare_recipes_of_known_tasks(name):
    recipe = recipe_of(page(name))
    assert recipe.task in TASKS
    # There are no published results on generated scenes.
    facts = (recipe.images, recipe.length, recipe.batch_size, recipe.start)
    assert None not in facts or name.startswith(GENERATED)


def test_recipes_have_unique_names():
    names = [recipe_of(page(name)).name for name in pages()]
    assert len(set(names)) == len(names) >= 4


@pytest.mark.parametrize(
    ('task', 'name'),
    [
        ('instance_segmentation', 'mask_rcnn_coco_1x'),
        ('semantic_segmentation', 'upernet_ade20k_160k'),
        ('classification', 'imagenet_1k_300e'),
    ],
)
def test_recipe_of_earlier_results_matches_the_page(task, name):
    assert TASKS[task].earlier.recipe == recipe_of(page(name))


def test_tasks_are_found_by_both_keys():
    for earlier, key in (
        ('mask_rcnn', 'instance_segmentation'),
        ('upernet', 'semantic_segmentation'),
        ('imagenet', 'classification'),
    ):
        assert find_task(earlier) is find_task(key) is TASKS[key]
    assert find_task('retina') is find_task(None) is None


def test_published_figures_use_declared_recipes():
    recipes = {recipe.name: recipe for recipe in (recipe_of(page(name)) for name in pages())}
    entries = load_published()
    # Recipes of the field, for users who write such a page.
    tasks = {
        'vitdet_coco_100e': 'instance_segmentation',
        'semantic_fpn_ade20k_40k': 'semantic_segmentation',
    }
    assert not tasks.keys() & recipes.keys()
    # Nothing is published with UperNet on COCO-Stuff 164k, or on generated scenes.
    published = {entry.recipe for entry in entries}
    unpublished = {name for name in recipes if name.startswith(GENERATED)}
    unpublished.add('upernet_coco_stuff164k_80k')
    assert published == (recipes.keys() | tasks.keys()) - unpublished
    tasks |= {name: recipe.task for name, recipe in recipes.items()}
    for entry in entries:
        task = TASKS[tasks[entry.recipe]]
        known = {metric.published for metric in task.metrics}
        known |= {metric.published_augmented for metric in task.metrics}
        # Detectors without masks have no mask AP.
        optional = {*task.optional.metrics} if task.optional else set()
        needed = {find_metric(name).published for name in {*task.primary} - optional}
        assert needed <= entry.figures.keys() <= known


@every_task
def test_published_figures_are_primary_metrics(task):
    assert {metric.name for metric in task.metrics if metric.published} == {*task.primary}


@pytest.mark.parametrize('file', leaves(), ids=lambda file: f'{file.parent.name}/{file.stem}')
def test_leaves_declare_their_contestant(file):
    """Check the text of the file; other tests read the config."""
    (line,) = (line for line in file.read_text().splitlines() if line.startswith('contestant'))
    name = re.sub('^.*?(mask_rcnn|retinanet|upernet|semantic_fpn|imagenet)_', '', file.stem)
    if name == 'r50':  # the former name
        assert line == "contestant = dict(name='original_resnet50', family='original')"
    elif name.startswith('original_'):
        assert line.startswith(f"contestant = dict(name='{name}', family='original'")
    else:
        mixer, _, scale = name.rpartition('_')
        assert mixer in MIXERS
        assert line == f"contestant = dict(name='{mixer}_{scale}', scale='{scale}')"


@pytest.mark.parametrize(
    ('leaf', 'expected'),
    [
        ('mask_rcnn_dcn_tiny', Contestant('dcn_tiny', 'unified', 'dcn', 'tiny')),
        ('demo/upernet_swin_micro', Contestant('swin_micro', 'unified', 'swin', 'micro')),
        ('mask_rcnn_original_resnet50', Contestant('original_resnet50', 'original')),
        ('upernet_r50', Contestant('original_resnet50', 'original')),
        (
            'upernet_original_pvt_v2_b2',
            Contestant('original_pvt_v2_b2', 'original', 'pvt', 'tiny'),
        ),
    ],
)
def test_contestants_of_leaves(leaf, expected):
    cfg = read_config(str(ROOT / f'configs/{leaf}.py'))
    model = cfg.model.backbone
    scope = MODELS.switch_scope_and_registry(cfg.default_scope)
    with scope as registry:
        assert contestant_of(cfg, registry.build(model)) == expected


@every_task
def test_results_need_all_metrics_except_optional_ones(task, tmp_path):
    file = tmp_path / 'result.json'
    whole = figures(task)
    optional = set(task.optional.metrics) if task.optional else set()
    for name in task.headlines:
        metrics = {key: value for key, value in whole.items() if key != name}
        assert task.missing_metric(metrics) == name
    least = {name: value for name, value in whole.items() if name not in optional}
    for metrics in (whole, least):
        file.write_text(
            json.dumps(as_version_3(as_version_2(document(task=task.earlier.key, metrics=metrics))))
        )
        assert read_result(file).headline_metrics == tuple(metrics)


def test_one_head_identifies_a_model():
    heads = [head for task in TASKS.values() for head in task.heads]
    assert len(set(heads)) == len(heads)


@pytest.mark.parametrize(
    ('module', 'heavy'),
    [('evaluation.tasks', {'numpy', 'torch', 'mmengine'}), ('tools.table', {'torch', 'mmengine'})],
)
def test_tables_start_without_heavy_libraries(module, heavy):
    code = f'import sys, {module}; print(*{heavy} & set(sys.modules))'
    found = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (found.stdout.strip(), found.stderr) == ('', '')
