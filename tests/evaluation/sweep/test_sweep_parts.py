"""The parts of a sweep: matching, places, commands, logs, progress, Slurm's options."""

import itertools
import json
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from mmengine.config import Config

from evaluation.sweep import places
from evaluation.sweep.configs import Wanted, evaluations, find_configs, trainings
from evaluation.sweep.launching import TOOLS, Node, Place, command_of, environment_of, free_port
from evaluation.sweep.log import complaint, epoch_length, reason, tail
from evaluation.sweep.places import local_places
from evaluation.sweep.runs import data_root_of, pretrained_of
from evaluation.sweep.slurm import SlurmWishes, minutes_of, outside_of_a_job, parameters_of
from evaluation.utils.errors import UserError
from evaluation.utils.scalars import Step, latest_step


@pytest.fixture
def configs(tmp_path):
    """Three configs, one of whose names is in two folders."""
    for name in ('a/swin.py', 'a/dcn.py', 'b/swin.py', 'a/notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


class TestConfigs:
    def test_patterns_and_files(self, configs):
        found = find_configs([f'{configs}/a/*', f'{configs}/a/swin.py'])
        assert found == [configs / 'a/dcn.py', configs / 'a/swin.py']

    def test_equal_names_are_refused(self, configs):
        with pytest.raises(UserError, match=r'a/swin\.py and .*b/swin\.py have one name'):
            find_configs([f'{configs}/*/*.py'])

    def test_every_seed(self, configs):
        runs = trainings([configs / 'a/dcn.py', configs / 'a/swin.py'], [0, 2])
        assert [run.name for run in runs] == ['dcn/seed_0', 'dcn/seed_2', 'swin/seed_0', 'swin/seed_2']

    def test_checkpoints_to_test(self, configs):
        files = {
            'single.pth': None,
            'dcn/iter_8.pth': 'dcn',
            'swin/seed_0/iter_4.pth': 'swin/seed_0',
            'swin/seed_10/iter_6.pth': 'swin/seed_10',
        }
        for file, folder in files.items():
            (configs / file).parent.mkdir(parents=True, exist_ok=True)
            (configs / file).touch()
            if folder:
                (configs / folder / 'last_checkpoint').write_text(f'/elsewhere/{Path(file).name}')
        named = [Path(f'{name}.py') for name in ('dcn', 'single', 'swin')]
        found = [(run.name, run.checkpoint) for run in evaluations(named, configs, None)]
        assert found == [
            ('dcn/test', f'{configs}/dcn/iter_8.pth'),
            ('single/test', f'{configs}/single.pth'),
            ('swin/test_seed_0', f'{configs}/swin/seed_0/iter_4.pth'),
            ('swin/test_seed_10', f'{configs}/swin/seed_10/iter_6.pth'),
        ]
        assert [run.name for run in evaluations(named[2:], configs, [10])] == ['swin/test_seed_10']
        with pytest.raises(UserError, match='no checkpoint of swin/seed_3;'):
            evaluations(named[2:], configs, [0, 3])
        # The file of all seeds is of none of them.
        with pytest.raises(UserError, match='no checkpoint of dcn/seed_1, single/seed_1, swin/seed_1;'):
            evaluations(named, configs, [1])
        with pytest.raises(UserError, match='give each seed once'):
            evaluations(named, configs, [10, 10])

    def test_folder_of_no_seed(self, configs):
        for name in ('seed_1', 'seed_²', 'seed_01', 'seed_x'):
            (configs / 'swin' / name).mkdir(parents=True)
            (configs / 'swin' / name / 'epoch_2.pth').touch()
        found = evaluations([Path('swin.py')], configs, None)
        assert [run.name for run in found] == ['swin/test_seed_1']


class TestPlaces:
    @pytest.fixture
    def machine(self, monkeypatch):
        """A machine with so many cores and GPUs, of which `visible` are given to us."""

        def be(cores, gpus, visible=None):
            monkeypatch.setattr(places.os, 'sched_getaffinity', lambda _: set(range(cores)))
            monkeypatch.setattr(places.torch.cuda, 'device_count', lambda: gpus)
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible or '')

        return be

    def test_gpus_are_shared_by_nobody(self, machine):
        machine(cores=32, gpus=8)
        found = local_places(gpus=2, parallel=None, jobs=20)
        assert [place.devices for place in found] == [('0', '1'), ('2', '3'), ('4', '5'), ('6', '7')]
        assert {place.threads for place in found} == {4}
        assert {place.processes for place in found} == {2}
        ports = [place.first_port for place in found]
        assert len({*ports}) == 4
        assert min(b - a for a, b in itertools.pairwise(ports)) >= 100

    def test_gpus_that_are_given_to_us(self, machine):
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

    def test_without_gpus_on_a_machine_that_has_some(self, machine):
        machine(cores=4, gpus=2)
        assert {place.devices for place in local_places(0, None, 2)} == {()}

    @pytest.mark.parametrize(
        ('gpus', 'parallel', 'message'),
        [(9, None, '--gpus is 9, but this machine has 8 GPUs'), (3, 3, '--parallel is 3, but 8 GPUs')],
    )
    def test_more_than_there_are(self, machine, gpus, parallel, message):
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

    def test_jobs_of_slurm_have_ports_of_their_own(self):
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
        # Slurm has said which.
        slurm = {'CUDA_VISIBLE_DEVICES': '1'}
        assert environment_of(Place(devices=None), Node(), slurm)['CUDA_VISIBLE_DEVICES'] == '1'

    def test_port_that_is_taken(self):
        with socket.socket() as server:
            server.bind(('', 0))
            server.listen()
            taken = server.getsockname()[1]
            assert free_port(taken) > taken


class TestLog:
    @pytest.mark.parametrize(
        ('lines', 'expected'),
        [
            (['warning: w', 'error: unknown mixer', ''], 'error: unknown mixer'),
            (['Traceback (most recent call last):', '  raise', 'ValueError: bad'], 'ValueError: bad'),
            (
                ['[rank1]: torch.OutOfMemoryError: CUDA', '=====', 'See above'],
                'torch.OutOfMemoryError: CUDA',
            ),
            (['the last words'], 'the last words'),
            (['interrupted: the last checkpoint is x'], 'interrupted: the last checkpoint is x'),
            ([], 'it said nothing'),
        ],
    )
    def test_reason(self, lines, expected):
        assert reason(lines) == expected

    @pytest.mark.parametrize(
        ('error', 'expected'),
        [
            (subprocess.CalledProcessError(1, ['squeue'], stderr='\n \n'), "Command '['squeue']'"),
            (subprocess.CalledProcessError(1, ['squeue'], stderr='\nno way\nto\n'), 'no way'),
            (subprocess.TimeoutExpired(['squeue'], 60, stderr=b'slow \xff\n'), 'slow \ufffd'),
            (subprocess.TimeoutExpired(['squeue'], 60), "Command '['squeue']' timed out"),
            (ValueError(), 'no reason given'),
        ],
    )
    def test_complaint(self, error, expected):
        assert complaint(error).startswith(expected)

    def test_tail_of_one_attempt(self, tmp_path):
        (tmp_path / 'log').write_bytes(b'before\n')
        assert tail(tmp_path / 'log', start=7) == []
        (tmp_path / 'log').write_bytes(b'before\nnow \xff\n\n----\n')
        assert tail(tmp_path / 'log', start=7) == ['now �']
        assert tail(tmp_path / 'nowhere') == []

    def test_epoch_length(self):
        lines = ['... Epoch(train)  [1][ 10/77]  lr: 1', 'Epoch(val) [1][8/8]']
        assert epoch_length(lines) == 77
        assert epoch_length(['Iter(train) [ 10/160]']) is None


class TestScalars:
    def test_of_the_last_training(self, tmp_path):
        entries = [{'step': 9, 'loss': 1, 'time': 0.5}, {'step': 10, 'loss': 1, 'time': 0.2}]
        for place, lines in (('20260101_1', [{'step': 99, 'loss': 1}]), ('20260102_1', entries)):
            file = tmp_path / place / 'vis_data/scalars.json'
            file.parent.mkdir(parents=True)
            # An evaluation counts something else; the last line is just being written.
            text = [json.dumps(each) for each in (*lines, {'step': 200, 'mIoU': 3, 'time': 9})]
            file.write_text('\n'.join([*text, '{"step": 11, "lo']))
        assert latest_step(tmp_path) == Step(10, 0.2)
        assert latest_step(tmp_path, since=time.time() - 60) == Step(10, 0.2)
        assert latest_step(tmp_path, since=time.time() + 60) == Step(0, None)

    def test_before_the_first(self, tmp_path):
        assert latest_step(tmp_path) == Step(0, None)


class TestSlurm:
    @pytest.mark.parametrize(
        ('text', 'minutes'),
        [
            ('90', 90), ('90:01', 91), ('8:00:00', 480), ('2-0', 2880), ('1-2:30', 1590),
            ('1-0:0:30', 1441), ('0', 1),
        ],
    )  # fmt: skip
    def test_time(self, text, minutes):
        assert minutes_of(text) == minutes

    @pytest.mark.parametrize('text', ['', 'long', '8h', '-1', '1:2:3:4'])
    def test_what_is_no_time(self, text):
        with pytest.raises(ValueError, match=f'^{text}$'):
            minutes_of(text)

    def test_one_task_a_machine(self):
        wishes = SlurmWishes(
            600, gpus=4, nodes=2, cpus=6, partition='gpu', requeue=2, others={'qos': 'q'}
        )
        found = parameters_of(wishes)
        assert (found['nodes'], found['ntasks_per_node'], found['cpus_per_task']) == (2, 1, 24)
        assert (found['gpus_per_node'], found['time'], found['partition']) == (4, 600, 'gpu')
        assert found['additional_parameters'] == {'requeue': True, 'qos': 'q'}
        assert 'gpus_per_node' not in parameters_of(SlurmWishes(600, gpus=0))

    def test_from_inside_a_job(self, monkeypatch):
        environment = {'SLURM_JOB_ID': '7', 'SLURM_CONF': 'c', 'SBATCH_ACCOUNT': 'a'}
        monkeypatch.setattr('evaluation.sweep.slurm.os', types.SimpleNamespace(environ=environment))
        with outside_of_a_job():
            assert environment == {'SLURM_CONF': 'c', 'SBATCH_ACCOUNT': 'a'}
        assert environment['SLURM_JOB_ID'] == '7'


class TestDataRoot:
    @pytest.mark.parametrize(
        ('own', 'there', 'expected'),
        [
            ('data/coco', 'coco', 'coco'),
            ('data/ade/ADEChallengeData2016', 'ade/ADEChallengeData2016', 'ade/ADEChallengeData2016'),
            ('data/ade/ADEChallengeData2016', 'ADEChallengeData2016', 'ADEChallengeData2016'),
            ('data/coco', 'train2017', ''),
            ('/big/coco', 'coco', 'coco'),
        ],
    )
    def test_folder_of_several_tasks(self, tmp_path, own, there, expected):
        (tmp_path / there).mkdir(parents=True)
        found = data_root_of(Config({'data_root': own}), str(tmp_path))
        assert Path(found) == tmp_path / expected

    def test_none(self):
        assert data_root_of(Config({'data_root': 'data/coco'}), None) is None


class TestPretrained:
    @pytest.mark.parametrize(
        ('wish', 'found'),
        [('w/{mixer}_{scale}/{seed}.pth', 'w/dcn_tiny/3.pth'), ('released', 'released'), (None, None)],
    )
    def test_names_of_the_run(self, wish, found):
        wanted = Wanted(Path('configs/upernet_dcn_tiny.py'), 'seed_3', 3)
        assert pretrained_of(wish, wanted) == found
