"""Logs and scalars truncated in the middle of a line, as after SIGKILL or on a full disk."""

import json

import pytest

from evaluation.results.reading import load_results
from evaluation.utils.scalars import latest_step

LINES = [{'loss': 1.5 + step, 'data': {'time': 0.25}, 'step': step} for step in range(1, 4)]
TEXT = ''.join(json.dumps(line) + '\n' for line in LINES).encode()


@pytest.fixture
def scalars(tmp_path):
    """The file of scalars that a training in `tmp_path` writes."""
    file = tmp_path / '20260101_000000/vis_data/scalars.json'
    file.parent.mkdir(parents=True)
    return file


def test_progress_counts_whole_lines(tmp_path, scalars):
    """The count is right for every prefix of the file."""
    for length in range(len(TEXT) + 1):
        scalars.write_bytes(TEXT[:length])
        # The last line may lack only its newline.
        whole = {TEXT[:length].count(b'\n'), (TEXT[:length] + b'\n').count(b'}\n')}
        assert latest_step(tmp_path).done in whole


@pytest.mark.parametrize(
    'garbage',
    [b'\xe2\x80', b'\0' * 100, b'{"loss": 1, "step": "x"}', b'[1]', b'{}}'],
    ids=['not UTF-8', 'zeros', 'not a number', 'not an object', 'extra brace'],
)
def test_progress_skips_garbage(tmp_path, scalars, garbage):
    scalars.write_bytes(TEXT + garbage + b'\n' + b'{"loss": 1.0, "step": 7}\n')
    assert latest_step(tmp_path).done == 7


def test_tables_read_no_logs_and_no_unfinished_results(reference_of, tmp_path):
    """Tables read only `result.json`, which gets its name when it is complete."""
    reference = reference_of('upernet')
    results = load_results([reference])
    for result in results:
        (target := tmp_path / result.path.parent.name).mkdir()
        content = result.path.read_bytes()
        (target / 'result.json').write_bytes(content)
        (target / '.result.json.x7k').write_bytes(content[: len(content) // 2])
        (target / 'scalars.json').write_bytes(TEXT[:40])
    assert [r.metrics for r in load_results([tmp_path])] == [
        r.metrics for r in sorted(results, key=lambda r: r.path.parent.name)
    ]
