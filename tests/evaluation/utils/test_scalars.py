"""Scalars that a training logs."""

import json
import time

import pytest

from evaluation.utils.scalars import LENGTH, Step, latest_step, write_length


class TestScalars:
    def test_last_training(self, tmp_path):
        entries = [{'step': 9, 'loss': 1, 'time': 0.5}, {'step': 10, 'loss': 1, 'time': 0.2}]
        for place, lines in (('20260101_1', [{'step': 99, 'loss': 1}]), ('20260102_1', entries)):
            file = tmp_path / place / 'vis_data/scalars.json'
            file.parent.mkdir(parents=True)
            # An evaluation counts epochs; the last line is still being written.
            text = [json.dumps(each) for each in (*lines, {'step': 200, 'mIoU': 3, 'time': 9})]
            file.write_text('\n'.join([*text, '{"step": 11, "lo']))
        assert latest_step(tmp_path) == Step(10, 0.2)
        assert latest_step(tmp_path, since=time.time() - 60) == Step(10, 0.2)
        assert latest_step(tmp_path, since=time.time() + 60) == Step(0, None)

    def test_before_the_first_step(self, tmp_path):
        assert latest_step(tmp_path) == Step(0, None)

    def test_length(self, tmp_path):
        for place, length in (('20260101_1', 90), ('20260102_1', 231)):
            (tmp_path / place / 'vis_data').mkdir(parents=True)
            (tmp_path / place / 'vis_data/scalars.json').write_text('{"step": 9, "loss": 1}\n')
            write_length(tmp_path / place, length)
        assert latest_step(tmp_path) == Step(9, None, total=231)

    @pytest.mark.parametrize('text', ['', '[1]', '{}', '"'])
    def test_malformed_length(self, tmp_path, text):
        (tmp_path / '20260101_1/vis_data').mkdir(parents=True)
        (tmp_path / '20260101_1/vis_data/scalars.json').write_text('{"step": 9, "loss": 1}\n')
        (tmp_path / '20260101_1' / LENGTH).write_text(text)
        assert latest_step(tmp_path) == Step(9)
