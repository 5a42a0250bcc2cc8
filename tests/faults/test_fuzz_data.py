"""Damaged data are used or refused in one clear line; a few trials, or 200 with `--full`."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from evaluation.scenes.scene_datasets import write_datasets
from evaluation.scenes.scenes import SceneStyle
from tests.commands import ROOT
from tests.faults.data_trial import (
    TASKS,
    SilentError,
    check_map_is_unchanged,
    check_truth_is_perfect,
    use,
)

TRIALS = {False: 20, True: 200}


def test_damaged_data(full, tally, tmp_path):
    command = [sys.executable, '-m', 'tests.faults.fuzz_data', '--trials', str(TRIALS[full])]
    done = subprocess.run(
        [*command, '--json', tmp_path / 'results.json'],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    results = json.loads((tmp_path / 'results.json').read_text())
    lost = [f'{each["task"]} {each["seed"]} ({each["fault"]})' for each in results if each['fault']]
    survived = len(results) - len(lost)
    tally('damaged annotations, images and maps', len(results), survived, ', '.join(lost) or 'nothing')
    assert len(results) == TRIALS[full]
    assert done.returncode == 0, done.stdout
    # Otherwise, the damage would be too weak or too uniform.
    refused = sum(each['status'] == 2 for each in results)
    assert 0.2 < refused / len(results) < 0.9


class TestJudgement:
    """Trials notice results that do not match the data."""

    def test_truth(self, tmp_path):
        scenes = tmp_path / 'scenes'
        write_datasets(scenes, SceneStyle(height=64, width=64), {'train': 4, 'val': 3}, seed=0)
        metric = use(TASKS['coco'], scenes / 'coco', skip_bad_images=False)['metric']
        truth = scenes / 'coco/annotations/instances_val2017.json'
        check_truth_is_perfect(metric, truth)
        content = json.loads(truth.read_text())
        first = next(each for each in content['annotations'] if not each['iscrowd'])
        first['bbox'][0] += 20
        (tmp_path / 'moved.json').write_text(json.dumps(content))
        metric.results.clear()
        with pytest.raises(SilentError, match='the truth has a box_AP of'):
            check_truth_is_perfect(metric, tmp_path / 'moved.json')

    def test_maps(self, tmp_path):
        labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
        Image.fromarray(labels).save(tmp_path / 'a.png')
        check_map_is_unchanged(tmp_path / 'a.png', labels)
        with pytest.raises(SilentError):
            check_map_is_unchanged(tmp_path / 'a.png', labels + 1)
