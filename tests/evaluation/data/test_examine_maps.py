"""Every kind of damage to data with segmentation maps is found and reported."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import backbones  # noqa: F401  (before mmseg, which needs its operators)
from evaluation.data.map_layouts import CITYSCAPES, MAP_LAYOUTS
from evaluation.scenes.scene_datasets import write_maps
from evaluation.scenes.scenes import SceneStyle, render_scene, scene_seed
from evaluation.utils.errors import UserError
from tests.commands import ROOT
from tests.evaluation.data.looking import look

REAL = Path(os.environ.get('ADE20K_ROOT', ROOT.parent / 'shared/real/ADEChallengeData2016'))
IMAGE = 'images/training/ADE_train_00000002.jpg'
MAP = 'annotations/training/ADE_train_00000002.png'


@pytest.fixture
def root(scenes, tmp_path):
    return shutil.copytree(scenes / 'ADEChallengeData2016', tmp_path / 'ade')


def write(values):
    return lambda file: Image.fromarray(values).save(file, 'png')


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 8
    file.write_bytes(content)


# File, function that damages it, and kind of the only finding.
DAMAGE = {
    'no map': (MAP, Path.unlink, 'images without maps'),
    'no image': (IMAGE, Path.unlink, 'maps without images'),
    'a truncated image': (IMAGE, lambda f: f.write_bytes(f.read_bytes()[:-9]), 'truncated images'),
    'a truncated map': (MAP, lambda f: f.write_bytes(f.read_bytes()[:-9]), 'truncated images'),
    'a map with a flipped bit': (MAP, flip_a_bit, 'corrupt images'),
    'an empty map': (MAP, lambda f: f.write_bytes(b''), 'empty files'),
    'HTML instead of an image': (IMAGE, lambda f: f.write_text('<html>'), 'undecodable images'),
    'a map of a different size': (
        MAP,
        write(np.ones((64, 32), np.uint8)),
        'maps with a different size than their image',
    ),
    'a color map': (
        MAP,
        write(np.ones((64, 64, 3), np.uint8)),
        'maps that are in color or not 8-bit',
    ),
    'a 16-bit map': (
        MAP,
        write(np.ones((64, 64), np.uint16)),
        'maps that are in color or not 8-bit',
    ),
    'a class above 150': (
        MAP,
        write(np.full((64, 64), 151, np.uint8)),
        'maps with labels out of range',
    ),
    'a different extension': (
        IMAGE,
        lambda f: shutil.copy(f, f.with_name('other.JPG')),
        'images with a different extension',
    ),
}


def test_valid_data(root):
    found = look(root)
    assert not found.findings
    assert (found.counts['images'], found.counts['maps']) == (6, 6)


def test_hidden_files_are_ignored(root):
    """Names that start with a dot, as written by other operating systems."""
    for name in (IMAGE, MAP):
        file = root / name
        file.with_name(f'._{file.name}').write_bytes(b'\0\5\x16\7')
    assert not look(root).findings


@pytest.mark.skipif(not REAL.is_dir(), reason='no real ADE20K images')
def test_real_data():
    assert not look(REAL).findings


@pytest.mark.parametrize('damage', DAMAGE)
def test_damage(root, damage):
    name, change, kind = DAMAGE[damage]
    change(root / name)
    (finding,) = look(root).findings
    assert finding.kind == kind
    expected = {
        'images without maps': (IMAGE, f'has no {MAP}'),
        'maps without images': (MAP, f'has no {IMAGE}'),
        'images with a different extension': (
            IMAGE.replace(Path(IMAGE).name, 'other.JPG'),
            finding.text,
        ),
    }.get(kind, (name, finding.text))
    assert (finding.subject, finding.text) == expected


class TestLabels:
    """Labels of maps whose classes start at 0, and of maps that ignore 0."""

    @pytest.mark.parametrize(
        ('label', 'keep_zero_label', 'is_known'),
        [
            (0, False, True),
            (0, True, True),
            (5, False, True),
            (5, True, False),
            (6, False, False),
            (255, False, True),
            (255, True, True),
        ],
    )
    def test_labels_of_five_classes(self, root, label, keep_zero_label, is_known):
        for file in root.rglob('*.png'):
            write(np.full((64, 64), label, np.uint8))(file)
        findings = look(root, num_classes=5, keep_zero_label=keep_zero_label).findings
        assert len(findings) == (0 if is_known else 6)
        assert {each.kind for each in findings} <= {'maps with labels out of range'}


class TestLayouts:
    """Every layout with maps: recognized, clean, and damaged."""

    @pytest.fixture(params=MAP_LAYOUTS.values(), ids=MAP_LAYOUTS)
    def layout(self, request):
        return request.param

    @pytest.fixture
    def data(self, layout, tmp_path):
        style = SceneStyle(height=48, width=64)
        write_maps(layout, tmp_path / 'data', style, {'train': 2, 'val': 1}, seed=0)
        return tmp_path / 'data'

    @staticmethod
    def files(data, layout, split='train'):
        """Return images and maps of a split."""
        images, maps = layout.folders(split)
        return (
            sorted((data / images).rglob(f'*{layout.image_ending}')),
            sorted((data / maps).rglob(f'*{layout.map_ending}')),
        )

    def test_valid_data(self, data, layout):
        found = look(data)
        assert found.layout == layout.name
        assert not found.findings
        assert found.counts == {'images': 3, 'maps': 3}

    def test_maps_have_the_labels_of_the_layout(self, data, layout):
        """Unlabeled pixels are ignored; classes start at 0, or at 1 where 0 is ignored."""
        scene = render_scene(SceneStyle(height=48, width=64), scene_seed(0, 'train', 0)).segmentation
        (file, _) = self.files(data, layout)[1]
        labels = np.asarray(Image.open(file)).astype(int)
        expected = scene.astype(int)
        if not layout.reduce_zero_label:
            expected = np.where(scene == 0, 255, expected - 1)
        np.testing.assert_array_equal(labels, expected)

    @pytest.mark.parametrize('is_beyond', [False, True])
    def test_last_class(self, data, layout, is_beyond):
        _, (file, _) = self.files(data, layout)
        last = layout.num_classes - (not layout.reduce_zero_label)
        write(np.full((48, 64), last + is_beyond, np.uint8))(file)
        found = [each.kind for each in look(data).findings]
        assert found == ['maps with labels out of range'] * is_beyond

    def test_missing_map(self, data, layout):
        (image, _), (file, _) = self.files(data, layout)
        file.unlink()
        (finding,) = look(data).findings
        assert finding.subject == str(image.relative_to(data))
        assert finding.text == f'has no {file.relative_to(data)}'

    def test_image_with_another_ending(self, data, layout):
        (image, _), _ = self.files(data, layout)
        shutil.copy(image, image.with_name('other.jpeg'))
        (finding,) = look(data).findings
        assert finding.text == f'does not end in {layout.image_ending}, so it is not found'

    def test_folder_without_maps(self, data, layout):
        shutil.rmtree(data / layout.folders('val')[1])
        with pytest.raises(UserError, match='is missing, but images and maps are both needed'):
            look(data)


def test_zero_label_of_a_layout_that_does_not_ignore_it(tmp_path):
    write_maps(CITYSCAPES, tmp_path / 'data', SceneStyle(height=48, width=64), {'train': 1}, seed=0)
    with pytest.raises(UserError, match='only to ade20k, but the layout is cityscapes; omit it'):
        look(tmp_path / 'data', keep_zero_label=True)


def test_incomplete_layout_is_refused(root):
    shutil.rmtree(root / 'images/validation')
    with pytest.raises(UserError, match='images/validation is missing, but images and maps'):
        look(root)
