"""The README and the pages in `docs/`: links, files, commands, options and examples in them."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache

import pytest

from evaluation.config.whole_config import check_config
from evaluation.engine.experiment import read_config
from evaluation.models.complexity import complexity_of_config
from evaluation.scenes.scene_datasets import write_datasets
from evaluation.scenes.scenes import SceneStyle
from tests.variants import ROOT

COPIED = ('backbones', 'configs', 'evaluation', 'tools')
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
MIXER_PAGE = ROOT / 'docs/adding_a_mixer.md'
EXAMPLES_PAGE = ROOT / 'docs/adding_a_head_or_data_set.md'
every_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)


def code_blocks(text):
    return re.findall(r'```python\n(.*?)```', text, re.S)


@every_page
def test_links_have_targets(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if target.startswith('http'):
            continue
        file, _, anchor = target.partition('#')
        linked = (page.parent / file) if file else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text()), target


def anchors(text):
    """Return the anchors that GitHub gives to headings."""
    headings = re.findall(r'^#+ (.+)$', text, re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@every_page
def test_files_that_are_named_exist(page):
    if page.name == 'errors.md':
        pytest.skip('it names missing files')
    # Files that an example on the page creates.
    made = set(re.findall(r'<!-- file: (\S+) -->', page.read_text()))
    for file in re.findall(r'(?<![\w/.{}])(?:configs|tools|tests)/[\w/]+\.(?:py|sh)', page.read_text()):
        if file not in made and 'shift' not in file:
            assert (ROOT / file).exists(), file


@pytest.fixture(scope='module')
def options_of(commands):
    """Return the options of a command, or of the commands that a launcher starts."""

    @cache
    def options(name):
        text = commands(name, '--help').stdout
        return set(re.findall(r'(?<![\w-])--[a-z][\w-]*', text))

    def of_script(script):
        name, ending = script.removeprefix('tools/').split('.')
        if ending == 'py':
            return options(name)
        # dist_train.sh and slurm_train.sh start train.py; dist_analyze.sh any analysis.
        started = (ROOT / 'tools').glob(f'{name.partition("_")[2]}*.py')
        return set().union(*(options(file.stem) for file in started))

    return of_script


def commands_in(text):
    """Yield the command lines that start a script of `tools/`, with continued lines joined."""
    joined = re.sub(r'\\\n\s*', ' ', text)
    for line in joined.splitlines():
        # If a launcher starts a script, take the script.
        if match := re.search(r'(?:python|bash) (?:.*)(tools/\w+\.(?:py|sh))(.*)', line):
            yield match[1], match[2].partition('`')[0].partition('#')[0]


@every_page
def test_options_of_commands_exist(page, options_of):
    for script, arguments in commands_in(page.read_text()):
        for option in re.findall(r'(?<![\w-])--[a-z][\w-]*', arguments):
            assert option in options_of(script), f'{script} has no {option}'


# Pages that name options in tables and text, each with options of other programs.
PAGES_WITH_OPTIONS = {
    'README.md': set(),
    'docs/calibration_and_shift.md': set(),
    'docs/checkpoints.md': set(),
    'docs/demo.md': set(),
    'docs/protocols.md': set(),
    'docs/ranking.md': {'--write'},
    'docs/speed.md': set(),
    'docs/tables.md': set(),
    'docs/testing.md': set(),
    'docs/training.md': {'--account', '--gres'},
    'docs/your_backbone.md': set(),
    'docs/your_data.md': set(),
}


@pytest.mark.parametrize('page', PAGES_WITH_OPTIONS)
def test_every_option_on_a_page_belongs_to_a_command(page, options_of):
    scripts = [f'tools/{file.name}' for file in (ROOT / 'tools').glob('*.py')]
    known = set().union(*map(options_of, scripts)) | PAGES_WITH_OPTIONS[page]
    for option in set(re.findall(r'(?<![\w-])--[a-z][\w-]+', (ROOT / page).read_text())):
        assert option in known, option


def test_readme_is_a_front_door():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 200


def test_index_links_every_page():
    index = ROOT / 'docs/index.md'
    linked = re.findall(r'\]\(([\w]+\.md)\)', index.read_text())
    assert sorted(linked) == sorted(file.name for file in index.parent.glob('*.md') if file != index)


EXAMPLES = dict(
    re.findall(r'<!-- file: (\S+) -->\n```python\n(.*?)```', EXAMPLES_PAGE.read_text(), re.S)
)


@pytest.fixture(scope='module')
def configs(tmp_path_factory):
    """A copy of the configs with the examples of a new head and a new data set."""
    root = tmp_path_factory.mktemp('configs')
    shutil.copytree(ROOT / 'configs', root / 'configs')
    for file, text in EXAMPLES.items():
        (root / file).write_text(text)
    return root


@pytest.mark.parametrize('file', [file for file in EXAMPLES if '_base_' not in file])
def test_example_config_is_complete(configs, file):
    """It can be read, checked, built, and run without tensor values."""
    cfg = read_config(str(configs / file))
    check_config(cfg, ('train_dataloader', 'val_dataloader', 'test_dataloader'), 1)
    complexity = complexity_of_config(cfg.model, cfg.default_scope)
    assert complexity.flops > 0
    assert not complexity.uncounted_operators


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A copy of the project with the example's mixer, and scenes to train on."""
    root = tmp_path_factory.mktemp('project')
    for folder in COPIED:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns('__pycache__'))
    text = MIXER_PAGE.read_text()
    mixer, entry, page = code_blocks(text)
    (root / 'backbones/mixers/shift.py').write_text(mixer)
    (root / 'configs/_base_/backbones/shift.py').write_text(page)
    table = root / 'backbones/mixers/__init__.py'
    imported, line = (part for part in entry.splitlines() if part)
    content = table.read_text().replace('\nMIXERS', f'\n{imported}\n\nMIXERS', 1)
    table.write_text(content.replace("'dcn'", f"{line.strip()}\n    'dcn'", 1))
    loop = re.search(r'^    for task in .*?^    done$', text, re.M | re.S).group()
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
def test_example_of_a_mixer_trains_both_tasks(project, task, steps):
    command = [sys.executable, 'tools/train.py', f'configs/demo/{task}_swin_micro.py']
    command += ['--backbone', 'shift_micro']
    options = ['--cfg-options', *steps, 'train_dataloader.batch_size=2']
    environment = {**os.environ, 'PYTHONPATH': str(project), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        command + options, cwd=project, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = (project / f'work_dirs/{task}_shift_micro').rglob('result.json')
    contestant = {'name': 'shift_micro', 'family': 'unified', 'mixer': 'shift', 'scale': 'micro'}
    assert json.loads(result.read_text())['contestant'] == contestant


@pytest.mark.parametrize('task', ['mask_rcnn', 'upernet', 'imagenet'])
def test_example_of_a_mixer_has_full_size_leaves(project, task):
    leaf = (project / f'configs/{task}_shift_tiny.py').read_text()
    assert 'shift_tiny as backbone' in leaf
    assert 'channel shift' in leaf
    assert 'swin' not in leaf
