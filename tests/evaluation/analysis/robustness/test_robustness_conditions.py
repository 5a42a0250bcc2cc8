"""The fifteen corruptions work as named with the installed libraries, and are reproducible."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from evaluation.analysis.robustness.conditions import CORRUPTIONS, SEVERITIES, corrupted
from evaluation.utils.errors import UserError

RANDOM = {
    'gaussian_noise', 'shot_noise', 'impulse_noise', 'glass_blur', 'motion_blur', 'snow', 'frost',
    'fog', 'elastic_transform',
}  # fmt: skip


def scene(height=96, width=128):
    """Return smooth colors with shapes on them, (H, W, 3), BGR."""
    rows, columns = np.mgrid[:height, :width]
    channels = [60 + rows % 97, 90 + columns % 71, 110 + (rows + columns) % 53]
    image = np.stack(channels, -1).astype(np.uint8)
    cv2.circle(image, (width // 2, height // 2), height // 4, (40, 60, 200), -1)
    cv2.rectangle(image, (4, 4), (width // 3, height // 3), (200, 180, 30), -1)
    return image


def difference(first, second):
    return np.abs(first.astype(float) - second).mean()


@pytest.mark.parametrize('name', CORRUPTIONS)
class TestAny:
    @pytest.mark.parametrize('size', [(32, 32), (33, 47), (101, 32), (64, 200)])
    def test_size(self, name, size):
        image = scene(*size)
        before = image.copy()
        for severity in SEVERITIES:
            changed = corrupted(image, name, severity, seed=0, index=0)
            assert changed.shape == image.shape
            assert changed.dtype == np.uint8
            assert difference(changed, image) > 0
        assert np.array_equal(image, before)

    def test_is_reproducible_and_differs_by_image_and_seed(self, name):
        image = scene()
        np.random.seed(1)
        first = corrupted(image, name, 3, seed=0, index=5)
        np.random.seed(2)
        outside = np.random.get_state()[1]
        assert np.array_equal(corrupted(image, name, 3, seed=0, index=5), first)
        assert np.array_equal(np.random.get_state()[1], outside)
        # Frost draws one of six pictures and motion blur an angle, so some of ten results may be equal.
        others = [corrupted(image, name, 3, seed=0, index=index) for index in range(6, 16)]
        others += [corrupted(image, name, 3, seed=1, index=5)]
        assert any(not np.array_equal(other, first) for other in others) == (name in RANDOM)

    def test_grows_with_severity(self, name):
        image = scene()
        changes = [difference(corrupted(image, name, s, seed=0, index=0), image) for s in SEVERITIES]
        assert changes[-1] > 1.2 * changes[0]


class TestEffect:
    def test_there_are_fifteen(self):
        assert len(set(CORRUPTIONS)) == 15

    def test_contrast(self):
        image = scene()
        means = image.mean((0, 1))
        expected = (image - means) * 0.2 + means
        assert difference(corrupted(image, 'contrast', 3, 0, 0), expected) < 1

    def test_gaussian_noise(self):
        gray = np.full((128, 128, 3), 128, np.uint8)
        noise = corrupted(gray, 'gaussian_noise', 1, 0, 0).astype(float) - 128
        assert noise.std() == pytest.approx(0.08 * 255, rel=0.03)

    def test_impulse_noise(self):
        gray = np.full((128, 128, 3), 128, np.uint8)
        changed = corrupted(gray, 'impulse_noise', 5, 0, 0)
        assert {0, 255} <= {*np.unique(changed)}
        assert np.isin(changed, (0, 255)).mean() == pytest.approx(0.27, abs=0.01)

    def test_brightness_adds_to_the_hsv_value(self):
        dark = np.full((32, 32, 3), (20, 40, 100), np.uint8)
        changed = corrupted(dark, 'brightness', 5, 0, 0)[0, 0].astype(float)
        assert changed == pytest.approx(np.array([20, 40, 100]) * (100 + 127.5) / 100, abs=1.01)

    def test_jpeg_keeps_bgr_order(self):
        image = scene()
        content = io.BytesIO()
        Image.fromarray(image[..., ::-1]).save(content, 'JPEG', quality=25)
        expected = np.asarray(Image.open(content))[..., ::-1]
        assert np.array_equal(corrupted(image, 'jpeg_compression', 1, 0, 0), expected)

    def test_blur_keeps_the_mean(self):
        image = scene()
        for name in ('defocus_blur', 'glass_blur', 'elastic_transform', 'pixelate'):
            assert corrupted(image, name, 3, 0, 0).mean() == pytest.approx(image.mean(), abs=3)

    def test_frost_is_bluish(self):
        """The pictures of ice have the same channel order as the image."""
        black = np.zeros((200, 200, 3), np.uint8)
        layers = [corrupted(black, 'frost', 3, 0, index).mean((0, 1)) for index in range(12)]
        blue, _, red = np.mean(layers, 0)
        assert blue > red


def test_small_image_is_refused():
    with pytest.raises(
        UserError, match=r'at least 32x32 pixels, but image 7 of the data set, .* has 40x31'
    ):
        corrupted(scene(31, 40), 'fog', 1, seed=0, index=7)
