"""Options and environment of Slurm jobs."""

import types

import pytest

from evaluation.sweep.executors import SlurmWishes, minutes_of, outside_of_a_job, parameters_of


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
    def test_invalid_time(self, text):
        with pytest.raises(ValueError, match=f'^{text}$'):
            minutes_of(text)

    def test_one_task_per_machine(self):
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
        monkeypatch.setattr('evaluation.sweep.executors.os', types.SimpleNamespace(environ=environment))
        with outside_of_a_job():
            assert environment == {'SLURM_CONF': 'c', 'SBATCH_ACCOUNT': 'a'}
        assert environment['SLURM_JOB_ID'] == '7'
