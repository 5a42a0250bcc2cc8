"""The two layouts of ImageNet, and timm's transforms."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.datasets import ImageFolder

from evaluation.data.imagenet import ImageNetDataset, labeled_images
from evaluation.engine.experiment import read_config
from evaluation.utils.errors import UserError
from tests.evaluation.data.class_folders import CLASSES, COUNTS, write_folders, write_lists
from tests.variants import ROOT


@pytest.fixture(params=[write_folders, write_lists])
def root(request, tmp_path):
    return request.param(tmp_path / 'data')


@pytest.mark.parametrize('split', COUNTS)
def test_labels_of_both_layouts(root, split):
    dataset = ImageNetDataset(str(root), split)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert len(infos) == 4 * COUNTS[split]
    for info in infos:
        assert CLASSES[info['gt_label']] in info['img_path'].removeprefix(str(root))
        Image.open(info['img_path']).verify()


def test_class_folders_match_torchvision(tmp_path):
    root = write_folders(tmp_path / 'data')
    dataset = ImageNetDataset(str(root), 'train')
    expected = ImageFolder(str(root / 'train'))
    found = [(info['img_path'], info['gt_label']) for info in map(dataset.get_data_info, range(32))]
    assert found == expected.samples
    assert list(dataset.metainfo['classes']) == expected.classes


def test_class_missing_from_val_does_not_shift_labels(tmp_path):
    root = write_folders(tmp_path / 'data')
    for file in (root / 'val/cat').iterdir():
        file.unlink()
    (root / 'val/cat').rmdir()
    assert {label for _, label in labeled_images(root, 'val')} == {1, 2, 3}


def test_val_without_train(tmp_path):
    root = write_folders(tmp_path / 'data', {'val': 2})
    assert [label for _, label in labeled_images(root, 'val')] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_list_with_blank_lines_and_spaces_in_names(tmp_path):
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/val.txt').write_text('a b.jpg 3\n\nc/d.jpg 0\n')
    assert labeled_images(tmp_path, 'val') == [('a b.jpg', 3), ('c/d.jpg', 0)]


@pytest.mark.parametrize('line', ['name', 'name.jpg -1', 'name.jpg one', ' 7', 'name.jpg 1.0'])
def test_malformed_line_is_reported(tmp_path, line):
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/val.txt').write_text(f'a.jpg 3\n{line}\n')
    with pytest.raises(UserError, match=r'val.txt, line 2: '):
        labeled_images(tmp_path, 'val')


def test_missing_split(tmp_path):
    (tmp_path / 'train').mkdir()
    with pytest.raises(UserError, match='has no val images with labels'):
        labeled_images(tmp_path, 'val')


@pytest.mark.parametrize('size', [(375, 500), (500, 333), (200, 200), (1000, 300)])
def test_evaluation_transforms_match_timm(tmp_path, size):
    """timm's transforms on the image that OpenCV decodes: resize, crop, normalize."""
    root = tmp_path / 'data'
    folder = root / 'val/only'
    folder.mkdir(parents=True)
    y, x = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([y % 256, x % 256, (x * y) % 256], 2).astype(np.uint8)
    Image.fromarray(pixels).save(folder / 'image.jpg', quality=95)
    cfg = read_config(str(ROOT / 'configs/imagenet_swin_micro.py'))
    dataset = ImageNetDataset(str(root), 'val', pipeline=cfg.test_pipeline)
    expected = create_transform(224, is_training=False, interpolation='bicubic', crop_pct=0.875)(
        Image.fromarray(cv2.imread(str(folder / 'image.jpg'))[..., ::-1])
    )
    preprocessor = cfg.model.data_preprocessor
    mean, std = (torch.tensor(preprocessor[key]).view(3, 1, 1) for key in ('mean', 'std'))
    # OpenMMLab's order of channels is BGR.
    torch.testing.assert_close((dataset[0]['inputs'].flip(0) - mean) / std, expected, rtol=0, atol=1e-5)


def test_training_transforms_depend_on_the_seed(tmp_path):
    from evaluation.utils.random_state import seeded

    cfg = read_config(str(ROOT / 'configs/imagenet_swin_micro.py'))
    dataset = ImageNetDataset(
        str(write_folders(tmp_path / 'data')), 'train', pipeline=cfg.train_pipeline
    )

    def draw(*seed):
        with seeded(*seed):
            return dataset[0]['inputs']

    assert draw(1).shape == (3, 224, 224)
    assert draw(1).dtype == torch.uint8
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
