"""Worked example of docs/adding_a_head_or_data_set.md: a page, its leaves and a published figure.

Nothing else is added to a copy of the project, and every command accepts the new recipes.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from evaluation.scenes.scene_datasets import write_datasets
from evaluation.scenes.scenes import SceneStyle
from tests.commands import ROOT

COPIED = ('backbones', 'configs', 'evaluation', 'tools')
PAGE = (ROOT / 'docs/adding_a_head_or_data_set.md').read_text()
FILES = dict(
    re.findall(r'<!-- file: (configs/(?:demo|_base_)/\S+) -->\n```python\n(.*?)```', PAGE, re.S)
)
(PUBLISHED,) = re.findall(r'<!-- published -->\n```json\n(.*?)```', PAGE, re.S)
LENGTHS = {
    'retinanet': ['train_cfg.max_epochs=2', 'train_cfg.val_interval=2'],
    'semantic_fpn': ['train_cfg.max_iters=160', 'train_cfg.val_interval=160'],
}


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A copy of the project with the example, a second leaf for each recipe, and scenes."""
    root = tmp_path_factory.mktemp('project')
    for folder in COPIED:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns('__pycache__'))
    for file, text in FILES.items():
        (root / file).write_text(text)
        if '_swin_' in file:
            (root / file.replace('_swin_', '_pvt_')).write_text(text.replace('swin', 'pvt'))
    entries = json.loads((root / 'configs/published.json').read_text())
    (root / 'configs/published.json').write_text(json.dumps([*entries, json.loads(PUBLISHED)]))
    style = SceneStyle(height=64, width=64)
    write_datasets(root / 'work_dirs/demo/data', style, {'train': 2, 'val': 48}, seed=0)
    return root


def run(project, tool, *arguments):
    """Run a command and return its output."""
    environment = {**os.environ, 'PYTHONPATH': str(project), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [sys.executable, f'tools/{tool}.py', *map(str, arguments)],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope='module')
def trained(project):
    """Work dirs of two detectors (RetinaNet recipe) and a segmentor (Semantic FPN recipe)."""
    folders = {}
    for config in ('retinanet_swin_micro', 'retinanet_pvt_micro', 'semantic_fpn_swin_micro'):
        head = config.removesuffix('_micro').rpartition('_')[0]
        steps = [*LENGTHS[head]]
        if head == 'semantic_fpn':
            # The recipe has 160 iterations, so this run is not compared with published figures.
            steps = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
        run(project, 'train', f'configs/demo/{config}.py', '--cfg-options', *steps)
        folders[config] = project / 'work_dirs' / config
    return folders


def results_of(folder):
    return [json.loads(file.read_text()) for file in folder.rglob('result.json')]


def test_results_state_recipe_and_contestant(trained):
    (detection,), (other,) = map(
        results_of, (trained['retinanet_swin_micro'], trained['retinanet_pvt_micro'])
    )
    assert detection['task'] == 'instance_segmentation'
    assert detection['recipe']['name'] == 'demo_retinanet'
    assert detection['recipe']['variant'] == 'fair'
    assert detection['contestant'] == {
        'name': 'swin_micro',
        'family': 'unified',
        'mixer': 'swin',
        'scale': 'micro',
    }
    assert other['contestant']['name'] == 'pvt_micro'
    assert 'box_AP' in detection['metrics']
    assert 'mask_AP' not in detection['metrics']
    (segmentation,) = results_of(trained['semantic_fpn_swin_micro'])
    assert (segmentation['task'], segmentation['recipe']['title']) == (
        'semantic_segmentation',
        'Semantic FPN',
    )
    assert segmentation['complexity']['height'] == 512


def test_checkpoint_can_be_tested(project, trained):
    folder = trained['retinanet_swin_micro']
    checkpoint = next(folder.glob('epoch_*.pth'))
    run(
        project,
        'test',
        'configs/demo/retinanet_swin_micro.py',
        checkpoint,
        '--work-dir',
        'work_dirs/test',
    )
    (tested,), (after_training,) = results_of(project / 'work_dirs/test'), results_of(folder)
    assert tested['metrics'] == after_training['metrics']
    assert tested['recipe'] == after_training['recipe']


def test_tables_show_the_recipes_and_the_published_figure(project, trained):
    text = run(project, 'table', *trained.values())
    assert re.findall('^### (.*)', text, re.M) == [
        'RetinaNet on generated scenes',
        'Semantic FPN on generated scenes',
    ]
    (header, _, pvt, swin) = [line for line in text.splitlines() if line.startswith('|')][:4]
    columns = [cell.strip() for cell in header.split('|')]
    cells = [cell.strip() for cell in swin.split('|')]
    assert cells[columns.index('published box AP')].rstrip('¶') == '12.3'
    assert 'pvt_micro' in pvt
    assert 'Published figures, for 2 epochs' in text
    only = run(project, 'table', *trained.values(), '--recipe', 'demo_semantic_fpn')
    assert re.findall('^### (.*)', only, re.M) == ['Semantic FPN on generated scenes']


def test_two_contestants_can_be_compared(project, trained):
    places = [trained[f'retinanet_{mixer}_micro'] for mixer in ('swin', 'pvt')]
    text = run(project, 'compare', *places, '--resamples', '200')
    assert all(word in text for word in ('swin_micro', 'pvt_micro', 'box AP'))


def test_flops_are_counted(project):
    text = run(project, 'complexity', *(file for file in FILES if '/demo/' in file))
    for size in ('800x1280', '512x2048'):
        assert f'FLOPs (G) at {size}' in text


def test_report_shows_the_recipes(project, trained):
    run(project, 'report', *trained.values(), '--output', 'report.html')
    page = (project / 'report.html').read_text()
    for text in ('RetinaNet on generated scenes', 'Semantic FPN on generated scenes', '12.3'):
        assert text in page
