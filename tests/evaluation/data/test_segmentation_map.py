"""Valid segmentation maps load as in mmseg; invalid ones raise a one-line error."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import backbones  # noqa: F401  (before mmseg, which needs its operators)
from evaluation.data.image_files import BadFileError
from evaluation.utils.errors import UserError
from tests.evaluation.data.test_image_loading import POSTSCRIPT, gray_png, huge

from mmseg.datasets.transforms import LoadAnnotations  # isort: skip
from evaluation.data.segmentation_map import LoadCheckedSegmentationMap, check_labels  # isort: skip


def save_map(file, labels, mode=None):
    """Write labels (H, W) as a PNG, optionally in a Pillow mode."""
    image = Image.fromarray(labels)
    if mode == 'P':
        image = Image.fromarray(labels, 'P')
        image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    elif mode:
        image = image.convert(mode)
    image.save(file)


def load_map(
    file, num_classes=5, reduce_zero_label=True, size=(24, 32), transform=None, of_dataset=None
):
    transform = transform or LoadCheckedSegmentationMap(num_classes, reduce_zero_label)
    results = {
        'seg_map_path': str(file),
        'ori_shape': size,
        'reduce_zero_label': reduce_zero_label if of_dataset is None else of_dataset,
        'seg_fields': [],
    }
    return transform.transform(results)['gt_seg_map']


@pytest.fixture
def labels():
    """Return a map (24, 32) with labels 0 to 5 and 255."""
    values = np.array([0, 1, 2, 3, 4, 5, 255], np.uint8)
    return values[np.arange(24 * 32).reshape(24, 32) % len(values)]


@pytest.mark.filterwarnings('ignore::UserWarning', 'ignore::DeprecationWarning')
class TestSegmentationMap:
    @pytest.mark.parametrize('mode', [None, 'P'])
    @pytest.mark.parametrize('reduce_zero_label', [True, False])
    def test_loads_as_mmseg(self, tmp_path, labels, mode, reduce_zero_label):
        file = tmp_path / 'a.png'
        save_map(file, labels, mode)
        count = 5 if reduce_zero_label else 6
        ours = load_map(file, count, reduce_zero_label)
        theirs = LoadAnnotations(reduce_zero_label=reduce_zero_label)
        assert np.array_equal(ours, load_map(file, 0, reduce_zero_label, transform=theirs))
        assert ours.dtype == np.uint8
        assert sorted(np.unique(ours)) == [*range(count), 255]

    @pytest.mark.parametrize(
        ('reduce_zero_label', 'count', 'known'),
        [(True, 4, '1 to 4, or 0 and 255 to ignore'), (False, 5, '0 to 4, or 255 to ignore')],
    )
    def test_class_out_of_range(self, tmp_path, labels, reduce_zero_label, count, known):
        file = tmp_path / 'a.png'
        save_map(file, labels)
        with pytest.raises(BadFileError, match=rf'a\.png has the class index 5; expected {known}'):
            load_map(file, count, reduce_zero_label)

    @given(st.integers(1, 255), st.lists(st.integers(0, 255), min_size=1, max_size=6), st.booleans())
    def test_labels_out_of_range_are_refused(self, num_classes, values, reduce_zero_label):
        array = np.array([values], np.uint8)
        beyond = any(num_classes <= value < 255 for value in values)
        try:
            check_labels(array, 'a.png', num_classes, reduce_zero_label)
        except BadFileError:
            assert beyond
        else:
            assert not beyond

    @pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA', 'I;16'])
    def test_not_class_indices(self, tmp_path, labels, mode):
        file = tmp_path / 'a.png'
        save_map(
            file,
            labels.astype(np.uint16) if mode == 'I;16' else labels,
            None if mode == 'I;16' else mode,
        )
        with pytest.raises(BadFileError, match=rf'a\.png is a PNG of mode {mode}; maps must be PNGs'):
            load_map(file)

    def test_jpeg(self, tmp_path, labels):
        file = tmp_path / 'a.png'
        Image.fromarray(labels).save(file, 'jpeg')
        with pytest.raises(BadFileError, match=r'a\.png is a JPEG of mode L'):
            load_map(file)

    @pytest.mark.parametrize('size', [(24, 31), (12, 16), (32, 24)])
    def test_different_size(self, tmp_path, labels, size):
        save_map(tmp_path / 'a.png', labels)
        with pytest.raises(
            BadFileError, match=rf'is 32x24 pixels, but its image is {size[1]}x{size[0]}'
        ):
            load_map(tmp_path / 'a.png', size=size)

    def test_missing(self, tmp_path):
        with pytest.raises(BadFileError, match=r'a\.png is missing'):
            load_map(tmp_path / 'a.png')

    @pytest.mark.parametrize('damage', ['pixels', 'name of a chunk'])
    def test_corrupt_chunk(self, tmp_path, damage):
        file = tmp_path / 'a.png'
        # Large enough that the pixels take several chunks.
        save_map(file, np.random.default_rng(0).integers(0, 6, (800, 800), np.uint8))
        content = bytearray(file.read_bytes())
        chunk = content.rindex(b'IDAT')
        assert chunk > content.index(b'IDAT')
        start, length = (chunk, 4) if damage == 'name of a chunk' else (chunk + 8, 20)
        content[start : start + length] = bytes(length)
        file.write_bytes(content)
        with pytest.raises(BadFileError, match=r'a\.png is corrupt'):
            load_map(file, size=(800, 800))

    @pytest.mark.parametrize('content', [b'<html>404</html>', POSTSCRIPT])
    def test_not_an_image(self, tmp_path, content):
        (tmp_path / 'a.png').write_bytes(content)
        with pytest.raises(BadFileError, match=r'a\.png cannot be decoded as an image'):
            load_map(tmp_path / 'a.png')

    def test_huge(self, tmp_path):
        (tmp_path / 'a.png').write_bytes(huge())
        with pytest.raises(BadFileError, match=r'claims to have more than 179 million pixels'):
            load_map(tmp_path / 'a.png', size=(100_000, 100_000))

    @pytest.mark.parametrize('bits', [1, 2, 4])
    def test_grayscale_with_few_bits(self, tmp_path, bits):
        """Decoders scale such values to 8 bits: with 2 bits, Pillow turns class 1 into 85."""
        file = tmp_path / 'a.png'
        file.write_bytes(gray_png(np.tile(np.uint8([0, 1]), (24, 16)), bits))
        if bits == 1:
            assert set(np.unique(load_map(file))) == {0, 255}
            return
        with pytest.raises(BadFileError, match=rf'is a grayscale PNG with {bits} bits per pixel'):
            load_map(file)

    def test_flipped_bits_are_detected_or_harmless(self, tmp_path, labels):
        file = tmp_path / 'a.png'
        save_map(file, labels)
        content, expected = file.read_bytes(), load_map(file)
        for place in range(0, 8 * len(content), 7):
            flipped = bytearray(content)
            flipped[place // 8] ^= 1 << place % 8
            file.write_bytes(flipped)
            with contextlib.suppress(BadFileError):
                assert np.array_equal(load_map(file), expected)

    def test_different_settings(self, tmp_path, labels):
        save_map(tmp_path / 'a.png', labels)
        with pytest.raises(UserError, match=r'reduce_zero_label is True in the data set but False'):
            load_map(tmp_path / 'a.png', reduce_zero_label=False, of_dataset=True)
