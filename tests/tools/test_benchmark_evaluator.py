"""`tools/benchmark_evaluator.py`: table and error messages."""

import re

import pytest

KIND = 'Tables and other commands'


@pytest.fixture
def benchmark(commands, tmp_path):
    """Run `tools/benchmark_evaluator.py` in an empty folder."""
    return lambda *arguments: commands('benchmark_evaluator', *arguments, folder=tmp_path)


def test_prints_a_table_and_writes_nothing(benchmark, tmp_path):
    sizes = ['--images', 5, '--detections', 4, '--classes', 3, '--repeats', 1]
    outcome = benchmark(*sizes)
    assert outcome.status == 0, outcome.stderr[-3000:]
    title, *lines = outcome.stdout.splitlines()
    assert re.fullmatch(
        r'### COCO evaluation of 20 detections on 5 images with \d+ objects of 3 classes', title
    )
    rows = [line.strip('| ').split('|') for line in lines if line.startswith('|')]
    assert [row[0].strip() for row in rows[2:]] == ['pycocotools', 'fast']
    assert all(float(row[-1]) <= 1e-9 for row in rows[2:])
    assert 'run 1 of 1, mask AP with fast' in outcome.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('given', 'options', 'message'),
    [
        (
            'benchmark_evaluator: `--images 0`',
            ['--images', 0],
            "argument --images: '0' is not a whole number from 1",
        ),
        (
            'benchmark_evaluator: `--images` that is not a number',
            ['--images', 'many'],
            "argument --images: 'many' is not a whole number from 1",
        ),
        (
            'benchmark_evaluator: a negative `--seed`',
            ['--seed', -1],
            "argument --seed: '-1' is not a whole number from 0",
        ),
    ],
)
def test_bad_input(benchmark, refused, given, options, message):
    refused(KIND, given, benchmark(*options), message)
