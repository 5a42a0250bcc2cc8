"""Scalars that a training logs."""

import json
import time

from evaluation.utils.scalars import Step, latest_step


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
