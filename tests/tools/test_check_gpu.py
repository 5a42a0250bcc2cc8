"""`tools/check_gpu.py`: stages on the CPU, and error messages."""

import json

import pytest

from evaluation.gpu_check.kernel_calls import CASES
from tests.triton_compiler import skip_unless_compiling

KIND = 'Tables and other commands'


@pytest.fixture
def check(commands, tmp_path):
    """Run `tools/check_gpu.py` in an empty folder."""
    return lambda *arguments: commands('check_gpu', *arguments, folder=tmp_path)


def test_a_stage_on_the_cpu(check, tmp_path):
    outcome = check('--device', 'cpu', '--quick', '--stages', 'environment')
    assert outcome.status == 0, outcome.stderr[-3000:]
    content = json.loads((tmp_path / 'work_dirs/check_gpu/check_gpu.json').read_text())
    (stage,) = content['stages']
    figures = {each['check']: each['figures'] for each in stage['outcomes']}
    assert figures['matrix products in fp32']['teraflops'] > 0
    assert figures['copies']['gigabytes_per_second'] > 0
    assert '| environment |' in outcome.stdout
    assert 'matrix products in fp16: this CPU has no instructions for fp16' in outcome.stdout
    assert '1/1 environment: at most 2:00' in outcome.stderr


def test_kernels_on_the_cpu(check, tmp_path):
    skip_unless_compiling()
    outcome = check('--device', 'cpu', '--quick', '--stages', 'kernels')
    assert outcome.status == 0, outcome.stderr[-3000:]
    content = json.loads((tmp_path / 'work_dirs/check_gpu/check_gpu.json').read_text())
    (found,) = content['stages'][0]['outcomes']
    assert found['check'] == 'sm_90'
    assert found['figures'].keys() == {str(case) for case in CASES}
    for case in CASES:
        kernels = found['figures'][str(case)]
        assert kernels.keys() == case.bounds.keys()
        assert all(used['registers'] > 0 for used in kernels.values())
    assert '| Call ' in outcome.stdout


@pytest.mark.parametrize(
    ('given', 'options', 'message'),
    [
        (
            'check_gpu: `--stages` that does not exist',
            ['--stages', 'sped'],
            "argument --stages: invalid choice: 'sped'",
        ),
        (
            'check_gpu: `--device` that does not exist',
            ['--device', 'cuda:77'],
            'device cuda:77',
        ),
        (
            'check_gpu: `--limit-seconds 0`',
            ['--limit-seconds', '0'],
            "argument --limit-seconds: '0' is not a whole number from 1",
        ),
        (
            'check_gpu: `--write-docs` with a missing file',
            ['--write-docs', 'missing.json'],
            'missing.json',
        ),
        (
            'check_gpu: `--write-docs` with a different JSON',
            ['--write-docs', 'other.json'],
            'other.json was not written by tools/check_gpu.py; give its check_gpu.json',
        ),
    ],
)
def test_invalid_input(check, tmp_path, refused, given, options, message):
    (tmp_path / 'other.json').write_text('{"version": 3}')
    refused(KIND, given, check(*options), message)
    assert [path.name for path in tmp_path.iterdir()] == ['other.json']
