import shutil

import pytest
from mmengine.config import ConfigDict

from evaluation.data.dataset_config import data_sha256


@pytest.fixture
def root(tmp_path):
    for folder in ('images', 'maps', 'val/cat', 'val/dog'):
        (tmp_path / 'data' / folder).mkdir(parents=True)
    for name in ('images/1.jpg', 'maps/1.png', 'val/cat/1.jpg', 'val/dog/2.jpg'):
        (tmp_path / 'data' / name).write_bytes(b'12345')
    (tmp_path / 'data/truth.json').write_text('{"images": []}')
    return tmp_path / 'data'


def datasets(root):
    return {
        'coco': ConfigDict(data_root=str(root), ann_file='truth.json', data_prefix=dict(img='images')),
        'ade20k': ConfigDict(
            data_root=str(root), data_prefix=dict(img_path='images', seg_map_path='maps')
        ),
        'imagenet': ConfigDict(data_root=str(root), split='val'),
    }


KINDS = ('coco', 'ade20k', 'imagenet')
CHANGES = {
    'coco': lambda root: (root / 'truth.json').write_text('{"images": [1]}'),
    'ade20k': lambda root: (root / 'maps/1.png').write_bytes(b'123456'),
    'imagenet': lambda root: (root / 'val/cat/1.jpg').rename(root / 'val/dog/1.jpg'),
}


@pytest.mark.parametrize('kind', KINDS)
def test_digest_depends_on_content_and_not_on_the_path(root, kind):
    before = data_sha256(datasets(root)[kind])
    moved = root.parent / 'moved'
    shutil.copytree(root, moved)
    assert data_sha256(datasets(moved)[kind]) == before
    # Add an image to `cat`, so that the folder and its class remain after the change below.
    (moved / 'val/cat/3.jpg').write_bytes(b'1')
    (root / 'val/cat/3.jpg').write_bytes(b'1')
    before = data_sha256(datasets(root)[kind])
    CHANGES[kind](moved)
    assert data_sha256(datasets(moved)[kind]) != before


@pytest.mark.parametrize('kind', KINDS)
def test_skipped_images_change_the_digest(root, kind):
    whole = datasets(root)[kind]
    assert data_sha256(ConfigDict(whole, left_out=['1.jpg'])) != data_sha256(whole)


def test_digest_of_wrapped_data_sets(root):
    whole = datasets(root)['coco']
    repeated = ConfigDict(type='RepeatDataset', times=2, dataset=whole)
    assert data_sha256(repeated) == data_sha256(whole)
    joined = ConfigDict(type='ConcatDataset', datasets=[whole, datasets(root)['imagenet']])
    assert data_sha256(joined) not in (data_sha256(whole), data_sha256(datasets(root)['imagenet']))
