"""Facts from constructed files and processes."""

import sys

import pytest

from evaluation.doctor import facts as environment
from evaluation.doctor.facts import (
    data_fact,
    installed,
    is_in,
    package_facts,
    probed,
    read_probe,
    requirements,
)


@pytest.mark.parametrize(
    ('version', 'range_', 'expected'),
    [
        ('2.6', '>=2.6', True),
        ('2.11.0', '>=2.6', True),
        ('2.5.1', '>=2.6', False),
        ('0.10.12', '>=0.10.12,<0.11', True),
        ('0.11.0', '>=0.10.12,<0.11', False),
        ('2.11.0+cu130', '>=2.6', True),
        ('2.3.0rc1', '>=2,<2.3', False),
        ('13', '>=10', True),
        ('1.0', '>=1.0.0', True),
        ('1.0', '', True),
    ],
)
def test_version_ranges(version, range_, expected):
    assert is_in(version, range_) is expected


def test_packages(tmp_path):
    setup = tmp_path / 'setup.cfg'
    setup.write_text(
        '[options]\ninstall_requires =\n    numpy>=2,<2.3\n    # why\n    pytest>=999\n    no-such>=1\n'
    )
    assert requirements(setup) == [('numpy', '>=2,<2.3'), ('pytest', '>=999'), ('no-such', '>=1')]
    assert package_facts(setup)['unfit'] == [
        f'pytest {installed("pytest")}, but pytest>=999 is required',
        'no-such missing, but no-such>=1 is required',
    ]


def test_test_environment_meets_requirements():
    assert package_facts()['unfit'] == []


@pytest.mark.parametrize(
    ('text', 'cores'), [('150000 100000\n', 1.5), ('max 100000\n', None), ('', None), ('x', None)]
)
def test_quota(tmp_path, text, cores):
    (tmp_path / 'cpu.max').write_text(text)
    assert environment.quota(tmp_path / 'cpu.max') == cores
    assert environment.quota(tmp_path / 'nowhere') is None


@pytest.mark.parametrize(
    ('cgroup', 'file', 'text', 'limit'),
    [
        ('0::/job/7', 'job/7/memory.max', '2000000\n', 2_000_000),
        ('0::/job/7', 'job/7/memory.max', 'max\n', None),
        ('0::/', 'memory.max', '3000000\n', 3_000_000),
        ('4:memory:/docker/a', 'memory/docker/a/memory.max', '1000\n', 1000),
        ('4:memory:/', 'memory/memory.limit_in_bytes', '5000\n', 5000),
        ('4:memory:/', 'memory/memory.limit_in_bytes', '9223372036854771712\n', None),
    ],
)
def test_memory_limit(tmp_path, monkeypatch, cgroup, file, text, limit):
    proc, groups = tmp_path / 'proc', tmp_path / 'cgroup'
    (proc / 'self').mkdir(parents=True)
    (proc / 'self/cgroup').write_text(f'{cgroup}\n')
    (proc / 'meminfo').write_text('MemTotal:       24684084 kB\n')
    (groups / file).parent.mkdir(parents=True)
    (groups / file).write_text(text)
    monkeypatch.setattr(environment, 'PROC', proc)
    monkeypatch.setattr(environment, 'CGROUPS', groups)
    assert environment.memory_limit() == limit


def test_machine_without_proc(tmp_path, monkeypatch):
    for name in ('PROC', 'CGROUPS', 'SHARED_MEMORY'):
        monkeypatch.setattr(environment, name, tmp_path / 'nowhere')
    facts = environment.machine_facts(tmp_path / 'not/yet/there')
    assert facts['memory']['total'] is facts['memory']['shared'] is None
    assert facts['disk']['free'] > 0


def test_data_layouts(tmp_path):
    assert data_fact(tmp_path / 'nowhere') is None
    assert data_fact(tmp_path) == 'unknown layout'
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations/instances_val2017.json').touch()
    assert data_fact(tmp_path) == 'coco'


class TestProbe:
    def run(self, program):
        return probed([sys.executable, '-c', program])

    def test_facts_and_errors(self):
        lines = ['{"step": "a"}', '{"step": "a", "facts": {"version": 1}}', '{"step": "b"}']
        found = read_probe('\n'.join([*lines, '{"step": "b", "error": "ImportError: no"}']), None)
        assert found == {'imports': {'a': {'version': 1}}, 'errors': {'b': 'ImportError: no'}}

    def test_crash_is_attributed_to_the_current_step(self):
        lines = ['{"step": "torch"}', '{"step": "torch", "facts": {}}', '{"step": "mmdet"}']
        found = self.run(f'import os\nprint(*{lines}, sep=chr(10), flush=True)\nos.abort()')
        assert found == {
            'imports': {'torch': {}},
            'errors': {'mmdet': 'the process exited with status -6'},
        }

    def test_python_that_does_not_start(self):
        assert self.run('import sys; sys.exit(3)')['errors'] == {
            'python': 'the process exited with status 3'
        }
