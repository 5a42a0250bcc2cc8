"""Sweeps that cannot work: status 2, one error line, nothing written."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.commands import Outcome
from tests.launching import TOOLS, environment_of_tests, places
from tests.tools.sweeping import NAME, make_project

KIND = 'Sweeps'


@pytest.fixture
def project(tmp_path, trials):
    return make_project(tmp_path, trials['upernet'])


@pytest.fixture
def sweep(commands, project):
    """Run `tools/sweep.py` in the project's folder, with one config by default."""

    def run(*more, patterns=(f'configs/demo/{NAME}.py',), options=None):
        arguments = project.arguments(*patterns, more=more, options=options)
        return commands('sweep', *arguments, folder=project.folder)

    return run


SLURM = ('--executor', 'slurm')


@pytest.mark.parametrize(
    ('given', 'options', 'said'),
    [
        ('an unknown executor', ('--executor', 'pbs'), 'argument --executor'),
        ('a negative number of GPUs', ('--gpus', -1), '--gpus is -1'),
        ('`--parallel 0`', ('--parallel', 0), '--parallel is 0'),
        ('a repeated seed', ('--seeds', 0, 1, 0), 'give each seed once'),
        ('a negative seed', ('--seeds', -1), "'-1' is not a whole number from 0"),
        (
            'a Slurm option without `--executor slurm`',
            ('--partition', 'gpu'),
            '--partition is only for Slurm',
        ),
        ('`--executor slurm` without a time limit', SLURM, '--executor slurm needs --time'),
        ('an invalid time limit', (*SLURM, '--time', '8h'), "--time is '8h'"),
        (
            '`--test-only` with `--pretrained`',
            ('--test-only', '.', '--pretrained', 'a'),
            '--pretr',
        ),
        (
            '`--test-only` with a missing folder',
            ('--test-only', 'nowhere'),
            'nowhere is not a folder',
        ),
        (
            '`--test-only` with a folder without checkpoints of a config',
            ('--test-only', 'configs'),
            'has no checkpoint of',
        ),
        ('missing pretrained weights', ('--pretrained', 'none.pth'), 'none.pth cannot be read'),
        (
            '`--pretrained` with an unknown placeholder',
            ('--pretrained', '{size}.pth'),
            '{size}.pth',
        ),
    ],
)
def test_options(sweep, project, refused, given, options, said):
    refused(KIND, given, sweep(*options), said)
    assert not project.root.exists()


@pytest.mark.parametrize(
    ('given', 'patterns', 'said'),
    [
        (
            'a pattern that matches nothing',
            ('configs/*_huge.py',),
            'no config matches configs/*_huge.py',
        ),
        (
            'two configs with the same name',
            (f'configs/**/{NAME}.py',),
            'have the same name and would share a work dir',
        ),
        ('a page instead of a leaf', ('configs/_base_/runtime.py',), 'has no default_scope'),
    ],
)
def test_patterns(sweep, project, refused, given, patterns, said):
    refused(KIND, given, sweep(patterns=patterns), said)
    assert not project.root.exists()


def test_more_gpus_than_the_machine_has(sweep, refused):
    outcome = sweep('--gpus', 1000)
    assert f'has {places()} ' in outcome.stderr
    line = re.sub(r'has \d+ \w.*;', 'has 8 GPUs;', outcome.stderr).replace(f'most {places()}', 'most 8')
    refused(KIND, 'more GPUs than the machine has', Outcome(2, '', line), '--gpus is 1000')


def test_slurm_on_a_machine_without_it(project, refused):
    words = project.arguments(f'configs/demo/{NAME}.py', more=(*SLURM, '--time', 60))
    done = subprocess.run(
        [sys.executable, TOOLS / 'sweep.py', *words],
        cwd=project.folder,
        env=environment_of_tests(PATH='/nowhere'),
        capture_output=True,
        text=True,
    )
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    refused(KIND, '`--executor slurm` on a machine without Slurm', outcome, 'sbatch was not found')


def test_work_dir_that_is_a_file(sweep, project, refused):
    project.root.touch()
    refused(KIND, 'a file instead of a work dir', sweep(), 'is a file')


def test_another_run_in_the_work_dir(sweep, project, refused):
    plan = sweep('--dry-run')
    assert plan.status == 0
    assert plan.stdout == f'new  {NAME}/seed_0: not started yet\n'
    folder = project.folder_of(NAME, 0)
    folder.mkdir(parents=True)
    identity = {
        'config_sha256': '1' * 64, 'data_sha256': '2' * 64, 'seed': 0, 'training_data_sha256': '3' * 64,
        'start': 'swin.pth', 'start_sha256': '4' * 64, 'batch_size': 4, 'options': [],
        'checkpoint_sha256': None,
    }  # fmt: skip
    content = {
        'schema_version': 1, 'identity': identity, 'state': 'done', 'attempt': 1, 'token': 't',
        'executor': 'local', 'devices': [],
    }  # fmt: skip
    (folder / 'sweep.json').write_text(json.dumps(content))
    outcome = sweep()
    line = re.sub(r'\b[0-9a-f]{8} here', '0a1b2c3d here', outcome.stderr)
    said = Outcome(outcome.status, outcome.stdout, line)
    refused(
        KIND,
        'a work dir with a run of a different config, data and initial weights',
        said,
        'the initial weights (swin.pth',
    )
    assert sorted(path.name for path in folder.iterdir()) == ['sweep.json']
    assert json.loads((folder / 'sweep.json').read_text()) == content


def test_training_outside_the_sweep(sweep, project, refused):
    folder = project.folder_of(NAME, 0)
    folder.mkdir(parents=True)
    (folder / 'iter_2.pth').touch()
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_2.pth'))
    outcome = sweep()
    refused(
        KIND, 'a work dir with a training run started outside the sweep', outcome, 'outside any sweep'
    )


def test_invalid_record(sweep, project, refused):
    folder = project.folder_of(NAME, 0)
    folder.mkdir(parents=True)
    (folder / 'sweep.json').write_text('{"schema_version": 1}')
    refused(KIND, 'an invalid sweep.json', sweep(), 'sweep.json is not a record of this version')


def test_seeds_without_a_checkpoint(sweep, project, refused):
    folder = project.folder / f'trained/{NAME}/seed_0'
    folder.mkdir(parents=True)
    (folder / 'iter_4.pth').touch()
    outcome = sweep('--test-only', 'trained', '--seeds', 0, 1, 2)
    said = f'no checkpoint of {NAME}/seed_1, {NAME}/seed_2;'
    refused(KIND, '`--test-only` with seeds that have no checkpoint', outcome, said)
    assert not project.root.exists()


def test_full_disk(commands, project, refused):
    """A limit on file sizes stands in for a full disk; only `sweep.json` is larger than the limit."""
    arguments = project.arguments(f'configs/demo/{NAME}.py')
    outcome = commands.start('sweep', *arguments, folder=project.folder, file_size=500).wait()
    refused(
        KIND,
        'a file larger than the limit on file sizes',
        outcome,
        'sweep.json: File too large; raise the limit',
    )


def test_config_edited_after_its_run_was_planned(commands, project, refused):
    arguments = project.trial.arguments()
    config = f'configs/demo/{NAME}.py'
    outcome = commands(
        'train', config, '--config-sha256', '1' * 64, '--work-dir', 'run', *arguments,
        folder=project.folder,
    )  # fmt: skip
    line = re.sub(r'is [0-9a-f]{8}\)', 'is 0a1b2c3d)', outcome.stderr)
    said = Outcome(outcome.status, outcome.stdout, line)
    given = 'a config edited after its run was planned'
    refused(KIND, given, said, '(digest 11111111 then, ')
    assert not (project.folder / 'run').exists()


@pytest.mark.skipif(os.geteuid() == 0, reason='root can write everywhere')
def test_work_dir_that_cannot_be_written(sweep, project, refused):
    project.root.mkdir(mode=0o500)
    assert 'is not writable' in sweep().stderr
