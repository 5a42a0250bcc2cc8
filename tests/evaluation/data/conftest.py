"""Valid data of 6 images in the layouts of COCO and ADE20K, to be copied and damaged."""

import pytest

from evaluation.demo.scene_datasets import write_datasets
from evaluation.demo.scenes import SceneStyle


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes')
    write_datasets(folder, SceneStyle(height=64, width=64), {'train': 4, 'val': 2}, seed=0)
    return folder
