"""Launches that cannot work: status 2 and one error line, for any number of processes."""

import re
import runpy
import shutil
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from torch.distributed.launcher import api

from tests.commands import ROOT, Outcome
from tests.launching import TOOLS, environment_of_tests, free_port, places, shell

KIND = 'Launching'
CONFIG = ROOT / 'configs/upernet_swin_tiny.py'
USAGES = {
    'dist_train': 'CONFIG GPUS [options of tools/train.py]',
    'dist_test': 'CONFIG CHECKPOINT GPUS [options of tools/test.py]',
    'dist_analyze': 'ANALYSIS CONFIG CHECKPOINT GPUS [options]',
    'slurm_train': 'PARTITION JOB_NAME CONFIG WORK_DIR [options]',
    'slurm_test': 'PARTITION JOB_NAME CONFIG CHECKPOINT [options]',
    'slurm_analyze': 'PARTITION JOB_NAME ANALYSIS CONFIG CHECKPOINT [options]',
}


def only_line(outcome):
    """Return the one line of output of a command that ended with status 2."""
    assert outcome.status == 2, outcome.stderr
    assert outcome.stdout == ''
    (line,) = outcome.stderr.splitlines()
    return line


class TestSettings:
    @pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh'])
    @pytest.mark.parametrize('number', ['two', '0', '-1', '1.5'])
    def test_number_of_processes(self, script, number, tmp_path):
        checkpoint = ['weights.pth'] if script == 'dist_test.sh' else []
        outcome = shell(script, CONFIG, *checkpoint, number, folder=tmp_path)
        assert only_line(outcome).startswith(f"error: GPUS is '{number}'; give ")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ('given', 'name', 'value'),
        [
            ('GPUS that is not a number', 'GPUS', 'two'),
            ('PORT that is not a number', 'PORT', 'http'),
            ('PORT that is too large', 'PORT', '65536'),
            ('NNODES that is not a number', 'NNODES', 'two'),
            ('NODE_RANK that is too large', 'NODE_RANK', '1'),
            ('MAX_RESTARTS that is not a number', 'MAX_RESTARTS', 'number of restarts'),
            ('PYTHON that is not found', 'PYTHON', 'python0'),
        ],
    )
    def test_of_dist(self, tmp_path, refused, given, name, value):
        settings = {name: value}
        outcome = shell('dist_train.sh', CONFIG, settings.pop('GPUS', 2), folder=tmp_path, **settings)
        refused(KIND, given, outcome, f"{name} is '{value}'")
        only_line(outcome)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize('name', ['GPUS', 'GPUS_PER_NODE', 'CPUS_PER_TASK'])
    def test_of_slurm(self, tmp_path, refused, name):
        outcome = shell('slurm_train.sh', 'p', 'j', CONFIG, 'w', folder=tmp_path, **{name: 'two'})
        refused(KIND, f'slurm_train.sh: {name} that is not a number', outcome, f"{name} is 'two'")
        only_line(outcome)

    def test_more_processes_than_the_machine_can_run(self, tmp_path, refused):
        outcome = shell('dist_train.sh', CONFIG, 1000, folder=tmp_path, PORT=free_port())
        line = only_line(outcome)
        assert f'this machine has room for {places()} ' in line
        assert line.endswith(f'give at most {places()}')
        here = Outcome(2, '', re.sub(rf'\b{places()}\b', '8', line))
        refused(
            KIND,
            'more processes than GPUs, or than CPU cores on a machine without GPUs',
            here,
            'GPUS is 1000',
        )
        assert not list(tmp_path.iterdir())

    def test_port_in_use(self, tmp_path, refused):
        with socket.socket() as server:
            server.bind(('127.0.0.1', 0))
            server.listen()
            port = str(server.getsockname()[1])
            outcome = shell('dist_train.sh', CONFIG, 2, folder=tmp_path, PORT=port)
        line = only_line(outcome)
        here = Outcome(2, '', line.replace(port, '29500'))
        refused(KIND, 'a port in use by another run', here, 'port 29500')

    def test_config_that_is_missing(self, tmp_path, refused):
        outcome = shell('dist_train.sh', 'nowhere.py', 2, folder=tmp_path)
        refused(KIND, 'a missing config', outcome, 'nowhere.py is not a file')
        only_line(outcome)

    @pytest.mark.parametrize('script', USAGES)
    def test_too_few_arguments(self, script, tmp_path, refused):
        outcome = shell(f'{script}.sh', 'config.py', folder=tmp_path)
        usage = f'usage: bash tools/{script}.sh {USAGES[script]}'
        refused(KIND, f'too few arguments for {script}.sh', outcome, usage)
        only_line(outcome)

    @pytest.mark.parametrize('script', ['dist_analyze.sh', 'slurm_analyze.sh'])
    def test_unknown_analysis(self, script, tmp_path, refused):
        before = ['p', 'j'] if script == 'slurm_analyze.sh' else []
        outcome = shell(script, *before, 'fer', CONFIG, 'weights.pth', 2, folder=tmp_path)
        refused(KIND, 'an unknown analysis', outcome, "analysis is 'fer'")
        only_line(outcome)

    def test_machine_without_slurm(self, tmp_path, refused):
        # Everything the script needs except Slurm, which may be installed here.
        programs = tmp_path / 'bin'
        programs.mkdir()
        for name in ('bash', 'dirname'):
            (programs / name).symlink_to(shutil.which(name))
        outcome = shell('slurm_train.sh', 'p', 'j', 'c.py', 'w', folder=tmp_path, PATH=str(programs))
        refused(KIND, 'a Slurm launcher on a machine without Slurm', outcome, 'srun was not found')
        only_line(outcome)


@pytest.mark.skipif(places() < 2, reason='this machine has room for one process')
class TestProcesses:
    def test_bad_input_is_reported_once(self, trials, tmp_path, refused):
        trial = trials['upernet']
        outcome = shell(
            'dist_train.sh', trial.config, 2, '--work-dir', tmp_path / 'run',
            *trial.arguments(), 'model.backbone.mixer.type=dnc', PORT=free_port(),
        )  # fmt: skip
        refused(KIND, 'an unknown mixer in a run of two processes', outcome, "unknown mixer 'dnc'")
        errors = [line for line in outcome.stderr.splitlines() if 'error' in line.lower()]
        assert len(errors) == 1
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ('end', 'status'),
        [('raise RuntimeError("broken")', 1), ('os._exit(3)', 3), ('os.kill(os.getpid(), 9)', 137)],
    )
    def test_failure_of_one_is_reported(self, tmp_path, end, status):
        """Failures other than bad input keep their traceback, and torchrun reports the process."""
        script = tmp_path / 'script.py'
        script.write_text(f'import os, time\nif os.environ["RANK"] == "1":\n    {end}\ntime.sleep(60)\n')
        outcome = launch(script)
        assert outcome.status == status
        assert ('RuntimeError: broken' in outcome.stderr) == (status == 1)
        assert re.search(r'rank +: 1 ', outcome.stderr)

    @pytest.mark.parametrize(
        ('statuses', 'cause'),
        [
            ([2, -15], 2),
            ([143, 1], 1),
            ([-15, 3, 143], 3),
            ([143, -9], -9),
            ([1, 2], 2),
            ([130, 130], 130),
            ([143, -15], 143),
            ([-15], -15),
        ],
    )
    def test_first_cause(self, statuses, cause):
        module = runpy.run_path(str(TOOLS / 'launch.py'))
        assert module['first_cause'](statuses) == cause

    def test_success(self, tmp_path):
        """Each line is written in one call, because both processes write to the same pipe."""
        script = tmp_path / 'script.py'
        script.write_text(
            "import os\nos.write(1, f\"{os.environ['RANK']} {os.environ['WORLD_SIZE']}\\n\".encode())\n"
        )
        outcome = launch(script)
        assert outcome.status == 0
        assert sorted(outcome.stdout.splitlines()) == ['0 2', '1 2']
        assert outcome.stderr == ''


class TestAgent:
    """The torch class that is replaced so that bad input is not retried."""

    @pytest.fixture
    def replace(self, monkeypatch):
        """Replace `agent` as torch's agent class; None stands for a torch without that class."""

        def run(agent):
            if agent is None:
                monkeypatch.delattr(api, 'LocalElasticAgent')
            else:
                monkeypatch.setattr(api, 'LocalElasticAgent', agent)
            runpy.run_path(str(TOOLS / 'launch.py'))['leave_bad_input_alone']()
            return getattr(api, 'LocalElasticAgent', None)

        return run

    @pytest.mark.parametrize(('status', 'left'), [(2, 0), (1, 3)])
    def test_restarts_end_with_bad_input(self, replace, capsys, status, left):
        class Stub:
            _remaining_restarts = 3

            def _monitor_workers(self, worker_group):
                return SimpleNamespace(failures={0: SimpleNamespace(exitcode=status)})

        agent = replace(Stub)()
        agent._monitor_workers(None)
        assert agent._remaining_restarts == left
        assert capsys.readouterr().err == ''

    def test_this_torch_is_supported(self, replace, capsys):
        agent = api.LocalElasticAgent
        assert issubclass(replace(agent), agent)
        assert capsys.readouterr().err == ''

    @pytest.mark.parametrize(
        'agent',
        [
            None,
            type('Agent', (), {}),
            type('Agent', (), {'_monitor_workers': lambda self, worker_group, deadline: None}),
        ],
        ids=['no class', 'no method', 'different signature'],
    )
    def test_unsupported_torch_is_unchanged(self, replace, capsys, agent):
        assert replace(agent) is agent
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith('warning: unsupported torchrun agent in this torch')


def launch(script):
    """Run a script in two processes with `tools/launch.py`."""
    done = subprocess.run(
        [
            sys.executable, TOOLS / 'launch.py', '--nproc_per_node', '2', '--master_port', free_port(),
            script,
        ],
        env=environment_of_tests(),
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)
