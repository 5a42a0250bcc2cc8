"""Places and commands of jobs, and termination of all processes that a command starts."""

import itertools
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from evaluation.sweep import launching
from evaluation.sweep.launching import (
    Node,
    Place,
    command_of,
    environment_of,
    local_places,
)
from evaluation.utils.errors import UserError
from tests.launching import TOOLS, environment_of_tests, free_port, places, processes_with

RANKS = min(2, places())
SECONDS = 60
# Like a hanging collective operation, in which the interpreter never handles the signal.
DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(f'{sys.argv[1]}/{os.getpid()}_{os.getppid()}', 'w').close()
time.sleep(60)
"""
JOB = """
import os, sys
from evaluation.sweep.launching import run_to_its_end
stop, *command = sys.argv[1:]
print(run_to_its_end(command, os.environ, sys.stderr.buffer, [], lambda: os.path.exists(stop), 0.5))
"""


@pytest.fixture
def job(tmp_path):
    """Job that runs torchrun with processes that ignore SIGTERM; all have started."""
    deaf, folder = tmp_path / 'deaf.py', tmp_path / 'there'
    deaf.write_text(DEAF)
    folder.mkdir()
    launch = [TOOLS / 'launch.py', '--nproc_per_node', RANKS, '--master_port', free_port(), deaf, folder]
    words = [sys.executable, '-c', JOB, tmp_path / 'stop', sys.executable, *launch]
    process = subprocess.Popen(
        [str(word) for word in words], env=environment_of_tests(), stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + SECONDS
    while len(list(folder.iterdir())) < RANKS and time.monotonic() < end:
        time.sleep(0.1)
    yield process
    process.stdout.close()


@pytest.mark.parametrize('way', ['asked to stop', 'torchrun is killed'])
def test_no_process_outlives_a_job(job, tmp_path, way):
    names = [file.name.split('_') for file in (tmp_path / 'there').iterdir()]
    assert len(names) == RANKS
    if way == 'asked to stop':
        (tmp_path / 'stop').touch()
    else:
        subprocess.run(['kill', '-KILL', names[0][1]], check=True)
    said, _ = job.communicate(timeout=SECONDS)
    assert int(said) == -signal.SIGKILL
    assert [pid for pid, _ in names if Path('/proc', pid).exists()] == []
    assert not processes_with(tmp_path / 'there')


class TestPlaces:
    @pytest.fixture
    def machine(self, monkeypatch):
        """Set the number of cores and GPUs of the machine, and the visible GPUs."""

        def be(cores, gpus, visible=None):
            monkeypatch.setattr(launching.os, 'sched_getaffinity', lambda _: set(range(cores)))
            monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible or '')

        return be

    def test_jobs_do_not_share_gpus(self, machine):
        machine(cores=32, gpus=8)
        found = local_places(gpus=2, parallel=None, jobs=20)
        assert [place.devices for place in found] == [('0', '1'), ('2', '3'), ('4', '5'), ('6', '7')]
        assert {place.threads for place in found} == {4}
        assert {place.processes for place in found} == {2}
        ports = [place.first_port for place in found]
        assert len({*ports}) == 4
        assert min(b - a for a, b in itertools.pairwise(ports)) >= 100

    def test_visible_gpus(self, machine):
        machine(cores=8, gpus=3, visible='4,GPU-5a,6')
        found = local_places(gpus=1, parallel=2, jobs=9)
        assert [place.devices for place in found] == [('4',), ('GPU-5a',)]

    def test_cores(self, machine):
        machine(cores=8, gpus=0)
        found = local_places(gpus=1, parallel=None, jobs=3)
        assert [(place.devices, place.threads) for place in found] == [((), 2)] * 3
        assert len(local_places(gpus=4, parallel=None, jobs=9)) == 2
        assert [place.threads for place in local_places(1, parallel=1, jobs=9)] == [8]
        assert len(local_places(1, parallel=12, jobs=20)) == 12

    def test_no_gpus_on_a_machine_with_gpus(self, machine):
        machine(cores=4, gpus=2)
        assert {place.devices for place in local_places(0, None, 2)} == {()}

    @pytest.mark.parametrize(
        ('gpus', 'parallel', 'message'),
        [(9, None, '--gpus is 9, but this machine has 8 GPUs'), (3, 3, '--parallel is 3, but 8 GPUs')],
    )
    def test_too_many_gpus(self, machine, gpus, parallel, message):
        machine(cores=8, gpus=8)
        with pytest.raises(UserError, match=message):
            local_places(gpus, parallel, 1)


class TestCommand:
    def test_one_process(self):
        words = command_of('train', 'c.py', ['--seed', '1'], Place(), Node())
        assert words == [sys.executable, '-u', f'{TOOLS}/train.py', 'c.py', '--seed', '1']

    def test_several_processes(self):
        place = Place(processes=4)
        train = command_of('train', 'c.py', ['--seed', '1'], place, Node())
        assert train == ['bash', f'{TOOLS}/dist_train.sh', 'c.py', '4', '--seed', '1']
        test = command_of('test', 'c.py', ['w.pth', '--work-dir', 'w'], place, Node())
        assert test == ['bash', f'{TOOLS}/dist_test.sh', 'c.py', 'w.pth', '4', '--work-dir', 'w']

    def test_several_machines(self):
        node = Node(1, 2, 'gpu-07')
        assert command_of('train', 'c.py', [], Place(), node)[1] == f'{TOOLS}/dist_train.sh'
        given = environment_of(Place(first_port=21000), node, {'SLURM_PROCID': '1', 'SLURM_JOB_ID': '9'})
        names = ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT')
        assert [given[name] for name in names] == ['2', '1', 'gpu-07', '21000']
        assert 'SLURM_PROCID' not in given
        assert given['SLURM_JOB_ID'] == '9'

    def test_slurm_jobs_have_different_ports(self):
        ports = set()
        for job in range(100, 140):
            variables = {'SLURM_JOB_ID': str(job), 'SLURM_STEP_ID': '0'}
            given = [environment_of(Place(first_port=None), Node(n, 2, 'a'), variables) for n in (0, 1)]
            assert given[0]['PORT'] == given[1]['PORT']
            ports.add(int(given[0]['PORT']))
        assert len(ports) == 40
        assert 1024 < min(ports) <= max(ports) < 65536

    def test_devices(self):
        given = environment_of(
            Place(devices=('2', '3'), threads=3), Node(), {'CUDA_VISIBLE_DEVICES': '0'}
        )
        assert (given['CUDA_VISIBLE_DEVICES'], given['OMP_NUM_THREADS']) == ('2,3', '3')
        assert environment_of(Place(devices=()), Node(), {})['CUDA_VISIBLE_DEVICES'] == ''
        # Slurm has set the devices.
        slurm = {'CUDA_VISIBLE_DEVICES': '1'}
        assert environment_of(Place(devices=None), Node(), slurm)['CUDA_VISIBLE_DEVICES'] == '1'

    def test_port_in_use(self):
        with socket.socket() as server:
            server.bind(('', 0))
            server.listen()
            taken = server.getsockname()[1]
            assert launching.free_port(taken) > taken
