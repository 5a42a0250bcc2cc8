"""Work dirs of an earlier version, with digests of version 1 and configs that name modules since moved.

`tests/data/earlier_work_dirs.tar.xz` has a finished run of each task and an interrupted run in `runs/`,
an interrupted training in `work_dirs/`, and their configs and data. All weights are zeros.
"""

import json
import re
import shutil
import tarfile

import pytest

from evaluation.config.config_files import read_config
from evaluation.config.digests import (
    DIGEST_VERSION,
    REGISTRATION,
    config_sha256,
    config_sha256_version_1,
)
from tests.commands import ROOT, read_results

DATA = ROOT / 'tests/data'
FINISHED = ('imagenet_swin_micro', 'mask_rcnn_swin_micro', 'upernet_dcn_micro')
INTERRUPTED = 'upernet_swin_micro'
IMPORTS = re.compile(r'custom_imports = dict\(imports=\[.*?\]\)', re.DOTALL)


@pytest.fixture(scope='module')
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp('earlier')
    with tarfile.open(DATA / 'earlier_work_dirs.tar.xz') as archive:
        archive.extractall(folder, filter='data')
    return folder


@pytest.fixture
def earlier(unpacked, tmp_path):
    return shutil.copytree(unpacked, tmp_path / 'earlier')


def use_current_imports(folder):
    """Change the imports of the configs to those of a current leaf."""
    for config in (folder / 'configs').glob('*.py'):
        text, count = IMPORTS.subn(
            f'custom_imports = dict(imports=[{REGISTRATION!r}])', config.read_text()
        )
        assert count == 1
        config.write_text(text)


def test_leaves_keep_their_digests():
    digests = json.loads((DATA / 'config_digests_version_1.json').read_text())
    leaves = {name: read_config(str(ROOT / 'configs' / name)) for name in digests}
    assert {name: config_sha256_version_1(cfg) for name, cfg in leaves.items()} == digests
    assert len({config_sha256(cfg) for cfg in leaves.values()}) == len(digests)


def test_module_names_do_not_affect_digests(earlier):
    configs = sorted((earlier / 'configs').glob('*.py'))
    before = [
        (config_sha256(cfg), config_sha256_version_1(cfg))
        for cfg in (read_config(str(config)) for config in configs)
    ]
    use_current_imports(earlier)
    assert before == [
        (config_sha256(cfg), config_sha256_version_1(cfg))
        for cfg in (read_config(str(config)) for config in configs)
    ]


@pytest.mark.parametrize('has_current_imports', [False, True])
def test_sweep_recognizes_finished_runs(commands, earlier, has_current_imports):
    if has_current_imports:
        use_current_imports(earlier)
    configs = [f'configs/{name}.py' for name in FINISHED]
    given = [*configs, '--work-dir', 'runs', '--dry-run']
    outcome = commands.succeed('sweep', *given, folder=earlier)
    states = [line.split()[0] for line in outcome.stdout.splitlines()]
    assert states == ['finished'] * len(FINISHED), outcome.stdout


def test_sweep_resumes_an_interrupted_run(commands, earlier):
    use_current_imports(earlier)
    run = earlier / 'runs' / INTERRUPTED / 'seed_0'
    commands.succeed('sweep', f'configs/{INTERRUPTED}.py', '--work-dir', 'runs', folder=earlier)
    assert json.loads((run / 'sweep.json').read_text())['state'] == 'done'
    assert 'resumed' in (run / 'output.log').read_text()
    *_, last = read_results(run)
    assert last['config']['digest_version'] == DIGEST_VERSION
    assert last['config']['sha256'] != last['config']['sha256_version_1']
    assert last['config']['sha256_version_1'] == read_results(run)[0]['config']['sha256']


def test_training_can_be_resumed(commands, earlier):
    config = 'configs/mask_rcnn_swin_micro.py'
    outcome = commands.succeed('train', config, '--resume', folder=earlier)
    assert 'epoch_1.pth' in outcome.stdout + outcome.stderr
    first, second = read_results(earlier / 'work_dirs')
    assert (first['epoch'], second['epoch'], second['seed']) == (1, 2, 5)
    named = (second['contestant']['name'], second['contestant']['scale'], second['recipe']['name'])
    assert named == ('swin_micro', 'micro', 'mask_rcnn_coco_1x')
    table = commands.succeed('table', 'work_dirs', '--all', folder=earlier)
    # Both results belong to one experiment, although their digest versions differ.
    assert 'Settings' not in table.stdout


def test_results_can_be_tabulated_compared_and_reported(commands, earlier):
    table = commands.succeed('table', 'runs', folder=earlier).stdout
    assert all(backbone in table for backbone in ('swin_micro', 'dcn_micro'))
    pair = [earlier / 'runs' / name for name in ('upernet_dcn_micro', INTERRUPTED)]
    compared = commands.succeed('compare', *pair, folder=earlier).stdout
    assert 'mIoU' in compared
    commands.succeed('report', 'runs', '--out', 'report.html', folder=earlier)
    assert (earlier / 'report.html').stat().st_size > 1000
