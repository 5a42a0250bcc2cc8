"""Valid data of 6 images in the layouts of COCO and ADE20K, to be copied and damaged; data of users."""

import shutil

import pytest

import backbones  # noqa: F401  (before mmdet and mmseg, which need its operators)
from evaluation.data.new_dataset import new_dataset
from evaluation.data.prepared_dataset import Options
from evaluation.scenes.scene_datasets import write_datasets
from evaluation.scenes.scenes import SceneStyle
from tests.own_data import pages_in


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes')
    write_datasets(folder, SceneStyle(height=64, width=64), {'train': 4, 'val': 2}, seed=0)
    return folder


@pytest.fixture(scope='session')
def own_scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('own')
    style = SceneStyle(height=64, width=64, empty_probability=0, crowd_probability=0.3)
    write_datasets(folder, style, {'train': 10, 'val': 3}, seed=0)
    return folder


@pytest.fixture(scope='session')
def pages(tmp_path_factory):
    return pages_in(tmp_path_factory.mktemp('pages'))


@pytest.fixture
def root(tmp_path):
    return tmp_path / 'fruit'


@pytest.fixture
def make(root, pages):
    """Write a recipe and return its text; pages are removed after the test."""
    before = {*pages.iterdir()}

    def write(**more):
        options = {
            'root': root,
            'name': None,
            'kind': None,
            'boxes': False,
            'ignored': [255],
            'share': 0.2,
            'seed': 0,
            'force': False,
            'pages': pages,
        }
        return new_dataset(Options(**(options | more)))

    yield write
    for page in {*pages.iterdir()} - before:
        page.unlink() if page.is_file() else shutil.rmtree(page)
