"""The worked example of the README, followed to the letter in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from evaluation.demo.scenes import SceneStyle, write_datasets
from tests.variants import ROOT

COPIED = ('backbones', 'configs', 'evaluation', 'tools')


def section(title):
    text = (ROOT / 'README.md').read_text()
    return re.search(rf'^## {title}\n(.*?)(?=^## )', text, re.M | re.S).group(1)


def code_blocks(text):
    return re.findall(r'```python\n(.*?)```', text, re.S)


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A copy of the project with the example's mixer, and scenes to train on."""
    root = tmp_path_factory.mktemp('project')
    for folder in COPIED:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns('__pycache__'))
    text = section('Add a mixer')
    mixer, entry, page = code_blocks(text)
    (root / 'backbones/mixers/pool.py').write_text(mixer)
    (root / 'configs/_base_/backbones/pool.py').write_text(page)
    table = root / 'backbones/mixers/__init__.py'
    imported, line = (part for part in entry.splitlines() if part)
    content = table.read_text().replace('\nMIXERS', f'\n{imported}\n\nMIXERS', 1)
    table.write_text(content.replace("'dcn'", f"{line.strip()}\n    'dcn'", 1))
    loop = re.search(r'^    for leaf in .*?^    done$', text, re.M | re.S).group()
    subprocess.run(['bash', '-c', loop], cwd=root, check=True)
    style = SceneStyle(height=64, width=64)
    write_datasets(root / 'work_dirs/demo/data', style, {'train': 4, 'val': 3}, seed=0)
    return root


@pytest.mark.parametrize(
    ('task', 'steps'),
    [
        ('mask_rcnn', ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1']),
        ('upernet', ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']),
    ],
)
def test_worked_example_trains_both_tasks(project, task, steps):
    command = [sys.executable, 'tools/train.py', f'configs/demo/{task}_pool_micro.py']
    options = ['--cfg-options', *steps, 'train_dataloader.batch_size=2']
    environment = {**os.environ, 'PYTHONPATH': str(project), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        command + options, cwd=project, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = (project / f'work_dirs/{task}_pool_micro').rglob('result.json')
    assert '"backbone": "pool_micro"' in result.read_text()


@pytest.mark.parametrize('task', ['mask_rcnn', 'upernet'])
def test_worked_example_has_full_size_leaves(project, task):
    leaf = (project / f'configs/{task}_pool_micro.py').read_text()
    assert 'pool_micro as backbone' in leaf
    assert 'average pooling' in leaf
    assert 'swin' not in leaf


def test_files_named_in_the_readme_exist():
    text = (ROOT / 'README.md').read_text()
    for target in re.findall(r'\]\(([^)#]+)\)', text):
        assert target.startswith('http') or (ROOT / target).exists(), target
    for file in re.findall(r'(?:configs|tools)/\w+\.(?:py|sh)', text):
        assert (ROOT / file).exists(), file


def test_every_option_in_the_readme_is_one_of_the_commands():
    help_texts = ''.join(
        subprocess.run([sys.executable, file, '--help'], cwd=ROOT, capture_output=True, text=True).stdout
        for file in sorted((ROOT / 'tools').glob('*.py'))
    )
    for option in set(re.findall(r'(?<![\w-])--[a-z][\w-]+', (ROOT / 'README.md').read_text())):
        assert option in help_texts, option
