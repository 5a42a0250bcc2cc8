"""Images of a folder, cropped to squares."""

import cv2
import numpy as np
import pytest

from evaluation.analysis.receptive_field.image_folder import (
    digest_of_images,
    find_images,
    load_image,
    middle_square,
)


class TestMiddleSquare:
    @pytest.mark.parametrize('shape', [(64, 64), (64, 97), (130, 64), (20, 31), (301, 200)])
    def test_size(self, shape):
        assert middle_square(np.zeros((*shape, 3), np.uint8), 64).shape == (64, 64, 3)

    def test_is_the_center(self):
        image = np.zeros((4, 10, 3), np.uint8)
        image[:, 3:7] = 255
        assert middle_square(image, 4).min() == 255

    def test_shrinking_averages_pixels(self):
        image = np.tile(np.array([0, 200], np.uint8), (8, 4))[..., None].repeat(3, 2)
        assert np.unique(middle_square(image, 4)).tolist() == [100]


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        for place, name in enumerate(('b.png', 'a.JPG', 'c.jpeg')):
            cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), 10 * place, np.uint8))
        (tmp_path / 'notes.txt').write_text('no image')
        (tmp_path / 'below').mkdir()
        return tmp_path

    def test_images_are_sorted(self, folder):
        assert [file.path.name for file in find_images(folder)] == ['a.JPG', 'b.png', 'c.jpeg']
        assert [file.path.name for file in find_images(folder, 2)] == ['a.JPG', 'b.png']

    def test_digest_depends_on_names_and_contents(self, folder):
        before = digest_of_images(find_images(folder))
        (folder / 'b.png').rename(folder / 'bb.png')
        renamed = digest_of_images(find_images(folder))
        cv2.imwrite(str(folder / 'bb.png'), np.full((8, 8, 3), 99, np.uint8))
        assert len({before, renamed, digest_of_images(find_images(folder))}) == 3

    def test_loads_images_in_bgr_order(self, tmp_path):
        image = np.zeros((8, 8, 3), np.uint8)
        image[..., 0] = 200
        cv2.imwrite(str(tmp_path / 'blue.png'), image)
        assert np.array_equal(load_image(tmp_path / 'blue.png', 8), image)
