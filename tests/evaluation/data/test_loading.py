"""Images and segmentation maps: what is whole loads as ever, what is not is named in one line."""

import contextlib
import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmcv.transforms import LoadImageFromFile
from PIL import Image
from torch.utils.data import DataLoader

import backbones  # noqa: F401  (before mmseg, which needs its operators)
from evaluation.data.image_files import (
    MOST_BYTES,
    BadFileError,
    check_size,
    is_truncated,
    read_whole,
)
from evaluation.data.loading import LoadCheckedImage
from evaluation.utils.errors import UserError
from tests.commands import ROOT

from evaluation.data.segmentation_map import LoadCheckedSegmentationMap, check_labels  # isort: skip
from mmseg.datasets.transforms import LoadAnnotations  # isort: skip

SHARED = ROOT.parent / 'shared/real'
REAL = [Path(os.environ.get('COCO_ROOT', SHARED / 'coco')), SHARED / 'ADEChallengeData2016']
REAL_FILES = sorted(file for root in REAL for kind in ('jpg', 'png') for file in root.rglob(f'*.{kind}'))


def picture(height=24, width=32):
    """Random pixels (H, W, 3), so that hardly anything is compressed."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(format, **options):
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, format, **options)
    return file.getvalue()


def with_thumbnail(jpeg):
    """A JPEG with a whole JPEG in its header, as cameras write it."""
    thumbnail = encoded('jpeg')
    segment = b'\xff\xe1' + (2 + len(thumbnail)).to_bytes(2, 'big') + thumbnail
    return jpeg[:2] + segment + jpeg[2:]


WHOLE = {
    'jpeg': encoded('jpeg'),
    'progressive jpeg': encoded('jpeg', progressive=True),
    'jpeg with a thumbnail': with_thumbnail(encoded('jpeg')),
    'jpeg with restart markers': encoded('jpeg', restart_marker_rows=1),
    'jpeg with fill bytes': encoded('jpeg').replace(b'\xff\xdb', b'\xff\xff\xff\xdb', 1),
    'jpeg with a marker of no length': b'\xff\xd8\xff\x01' + encoded('jpeg')[2:],
    'png': encoded('png'),
}


def huge():
    """A PNG of a few bytes that claims to have a hundred thousand pixels a side."""
    chunk = b'IHDR' + struct.pack('>IIBBBBB', 100_000, 100_000, 8, 0, 0, 0, 0)
    header = struct.pack('>I', 13) + chunk + struct.pack('>I', zlib.crc32(chunk))
    return WHOLE['png'][:8] + header + WHOLE['png'][33:]


# Decoders of PostScript run it as a program.
POSTSCRIPT = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\nshowpage\n%%EOF\n'


def grey_png(values, bits):
    """A grey PNG of values (H, W) in so many bits a pixel, which Pillow does not write."""
    height, width = values.shape
    pixels = np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(height, -1)
    rows = b''.join(b'\0' + np.packbits(row).tobytes() for row in pixels)
    header = struct.pack('>IIBBBBB', width, height, bits, 0, 0, 0, 0)
    chunks = [(b'IHDR', header), (b'IDAT', zlib.compress(rows)), (b'IEND', b'')]
    return WHOLE['png'][:8] + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in chunks
    )


class TestTruncation:
    @pytest.mark.parametrize('kind', WHOLE)
    def test_whole(self, kind):
        assert not is_truncated(WHOLE[kind])
        assert cv2.imdecode(np.frombuffer(WHOLE[kind], np.uint8), cv2.IMREAD_COLOR) is not None

    @pytest.mark.parametrize('kind', WHOLE)
    @given(trailing=st.binary(max_size=99))
    def test_bytes_after_the_end_do_no_harm(self, kind, trailing):
        assert not is_truncated(WHOLE[kind] + trailing)

    @pytest.mark.parametrize('kind', WHOLE)
    def test_every_shorter_one_is_truncated(self, kind):
        content = WHOLE[kind]
        signature = 2 if content.startswith(b'\xff\xd8') else 8
        assert all(is_truncated(content[:length]) for length in range(signature, len(content)))

    def test_other_formats_are_left_to_the_decoder(self):
        content = encoded('bmp')
        assert not is_truncated(content)
        assert not is_truncated(content[:50])

    @given(st.binary(max_size=200), st.sampled_from([b'', b'\xff\xd8', b'\x89PNG\r\n\x1a\n']))
    def test_any_bytes_are_judged(self, content, start):
        assert is_truncated(start + content) in (True, False)

    @pytest.mark.skipif(not REAL_FILES, reason='no real images')
    def test_no_real_image_is(self):
        wrong = [file for file in REAL_FILES if is_truncated(file.read_bytes())]
        assert not wrong


class TestReading:
    def test_missing(self, tmp_path):
        with pytest.raises(
            BadFileError, match=r'a\.jpg is missing; restore it, or .*--skip-bad-images$'
        ):
            read_whole(str(tmp_path / 'a.jpg'), None)

    def test_a_folder(self, tmp_path):
        with pytest.raises(BadFileError, match=r'is not a file; restore it'):
            read_whole(str(tmp_path), None)

    def test_empty(self, tmp_path):
        (tmp_path / 'a.jpg').touch()
        with pytest.raises(BadFileError, match=r'a\.jpg is empty'):
            read_whole(str(tmp_path / 'a.jpg'), None)

    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / 'a.jpg')
        with pytest.raises(BadFileError, match=r'a\.jpg is not a file; restore it'):
            read_whole(str(tmp_path / 'a.jpg'), None)

    def test_a_name_that_no_file_can_have(self):
        with pytest.raises(BadFileError, match=r'cannot be read \(embedded null byte\)'):
            read_whole('a\0.jpg', None)

    def test_more_bytes_than_an_image_has(self, tmp_path):
        with open(tmp_path / 'a.jpg', 'wb') as file:
            file.truncate(MOST_BYTES + 1)
        with pytest.raises(BadFileError, match=r'has 1,073,741,825 bytes, more than any image'):
            read_whole(str(tmp_path / 'a.jpg'), None)

    @pytest.mark.parametrize(
        ('height', 'width', 'accepted'), [(13_000, 13_765, True), (13_000, 13_767, False)]
    )
    def test_most_pixels(self, height, width, accepted):
        """179 million; the largest images of ImageNet have fewer than 100 million."""
        content = grey_png(np.zeros((1, 1), np.uint8), 8)
        content = content[:16] + struct.pack('>II', width, height) + content[24:]
        with contextlib.nullcontext() if accepted else pytest.raises(BadFileError, match='claims'):
            check_size(content[:29] + struct.pack('>I', zlib.crc32(content[12:29])) + content[33:], 'a')

    def test_a_checksum_that_is_wrong(self, tmp_path):
        content = bytearray(WHOLE['png'])
        content[60] ^= 4
        (tmp_path / 'a.png').write_bytes(content)
        with pytest.raises(BadFileError, match=r'a\.png was changed on its way: a checksum'):
            read_whole(str(tmp_path / 'a.png'), None)

    def test_cut_short(self, tmp_path):
        (tmp_path / 'a.jpg').write_bytes(WHOLE['jpeg'][:-1])
        with pytest.raises(BadFileError, match=r'a\.jpg ends early'):
            read_whole(str(tmp_path / 'a.jpg'), None)


class Raising:
    """A data set that raises in the process that loads."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise BadFileError('a: b.jpg is empty; restore it')


class TestError:
    def test_is_the_users(self):
        assert issubclass(BadFileError, UserError)

    def test_stays_one_line_through_a_loading_process(self):
        with pytest.raises(BadFileError) as raised:
            list(DataLoader(Raising(), num_workers=1, multiprocessing_context='fork'))
        assert str(raised.value) == 'a: b.jpg is empty; restore it'

    def test_survives_pickling(self):
        assert str(pickle.loads(pickle.dumps(BadFileError('a: b')))) == 'a: b'


def load_image(file, **stated):
    return LoadCheckedImage().transform({'img_path': str(file), **stated})


class TestImage:
    @pytest.mark.parametrize('kind', ['jpeg', 'progressive jpeg', 'png'])
    @pytest.mark.parametrize('options', [{}, {'to_float32': True}, {'color_type': 'grayscale'}])
    def test_loads_as_mmcv_does(self, tmp_path, kind, options):
        file = tmp_path / 'image'
        file.write_bytes(WHOLE[kind])
        ours = LoadCheckedImage(**options).transform({'img_path': str(file)})
        theirs = LoadImageFromFile(**options).transform({'img_path': str(file)})
        assert ours.keys() == theirs.keys()
        assert ours['img'].dtype == theirs['img'].dtype
        assert np.array_equal(ours['img'], theirs['img'])
        assert ours['img_shape'] == ours['ori_shape'] == theirs['ori_shape'] == (24, 32)

    @pytest.mark.parametrize('backend', ['cv2', 'pillow'])
    @pytest.mark.parametrize(
        'content', [b'<html>404</html>', b'\xff\xd8\xff\xda\xff\xd9', b'BM', POSTSCRIPT]
    )
    def test_not_an_image(self, tmp_path, backend, content):
        file = tmp_path / 'a.jpg'
        file.write_bytes(content)
        transform = LoadCheckedImage(imdecode_backend=backend)
        with pytest.raises(BadFileError, match=r'a\.jpg is not an image that can be decoded'):
            transform.transform({'img_path': str(file)})

    def test_size_is_the_annotated_one(self, tmp_path):
        file = tmp_path / 'a.jpg'
        file.write_bytes(WHOLE['jpeg'])
        assert load_image(file, height=24, width=32)['ori_shape'] == (24, 32)
        with pytest.raises(BadFileError, match=r'is 32x24 pixels, its annotations are for 33x24'):
            load_image(file, height=24, width=33)
        with pytest.raises(BadFileError, match=r'is 32x24 pixels, its annotations are for 32x20'):
            load_image(file, height=20, width=32)


def save_map(file, labels, mode=None):
    """Write labels (H, W) as a PNG, of a Pillow mode where it is given."""
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
    """A map (24, 32) with each of 0 to 5 and 255."""
    values = np.array([0, 1, 2, 3, 4, 5, 255], np.uint8)
    return values[np.arange(24 * 32).reshape(24, 32) % len(values)]


@pytest.mark.filterwarnings('ignore::UserWarning', 'ignore::DeprecationWarning')
class TestSegmentationMap:
    @pytest.mark.parametrize('mode', [None, 'P'])
    @pytest.mark.parametrize('reduce_zero_label', [True, False])
    def test_loads_as_mmseg_does(self, tmp_path, labels, mode, reduce_zero_label):
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
        [(True, 4, '1 to 4, and 0 and 255 to ignore'), (False, 5, '0 to 4, and 255 to ignore')],
    )
    def test_class_beyond_the_last(self, tmp_path, labels, reduce_zero_label, count, known):
        file = tmp_path / 'a.png'
        save_map(file, labels)
        with pytest.raises(BadFileError, match=rf'a\.png has the class index 5; known are {known}'):
            load_map(file, count, reduce_zero_label)

    @given(st.integers(1, 255), st.lists(st.integers(0, 255), min_size=1, max_size=6), st.booleans())
    def test_greatest_label_decides(self, num_classes, values, reduce_zero_label):
        array = np.array([values], np.uint8)
        beyond = any(num_classes <= value < 255 for value in values)
        try:
            check_labels(array, 'a.png', num_classes, reduce_zero_label)
        except BadFileError:
            assert beyond
        else:
            assert not beyond

    @pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA', 'I;16'])
    def test_no_indices(self, tmp_path, labels, mode):
        file = tmp_path / 'a.png'
        save_map(
            file,
            labels.astype(np.uint16) if mode == 'I;16' else labels,
            None if mode == 'I;16' else mode,
        )
        with pytest.raises(BadFileError, match=rf'a\.png is a PNG of mode {mode}; maps must be PNGs'):
            load_map(file)

    def test_lossy(self, tmp_path, labels):
        file = tmp_path / 'a.png'
        Image.fromarray(labels).save(file, 'jpeg')
        with pytest.raises(BadFileError, match=r'a\.png is a JPEG of mode L'):
            load_map(file)

    @pytest.mark.parametrize('size', [(24, 31), (12, 16), (32, 24)])
    def test_of_another_size(self, tmp_path, labels, size):
        save_map(tmp_path / 'a.png', labels)
        with pytest.raises(BadFileError, match=rf'is 32x24 pixels, its image {size[1]}x{size[0]}'):
            load_map(tmp_path / 'a.png', size=size)

    def test_missing(self, tmp_path):
        with pytest.raises(BadFileError, match=r'a\.png is missing'):
            load_map(tmp_path / 'a.png')

    @pytest.mark.parametrize('damage', ['pixels', 'name of a chunk'])
    def test_damaged_inside(self, tmp_path, damage):
        file = tmp_path / 'a.png'
        # So much that the pixels take several chunks.
        save_map(file, np.random.default_rng(0).integers(0, 6, (800, 800), np.uint8))
        content = bytearray(file.read_bytes())
        chunk = content.rindex(b'IDAT')
        assert chunk > content.index(b'IDAT')
        start, length = (chunk, 4) if damage == 'name of a chunk' else (chunk + 8, 20)
        content[start : start + length] = bytes(length)
        file.write_bytes(content)
        with pytest.raises(BadFileError, match=r'a\.png was changed on its way'):
            load_map(file, size=(800, 800))

    @pytest.mark.parametrize('content', [b'<html>404</html>', POSTSCRIPT])
    def test_not_an_image(self, tmp_path, content):
        (tmp_path / 'a.png').write_bytes(content)
        with pytest.raises(BadFileError, match=r'a\.png is not an image that can be decoded'):
            load_map(tmp_path / 'a.png')

    def test_huge(self, tmp_path):
        (tmp_path / 'a.png').write_bytes(huge())
        with pytest.raises(BadFileError, match=r'claims to have more than 179 million pixels'):
            load_map(tmp_path / 'a.png', size=(100_000, 100_000))

    @pytest.mark.parametrize('bits', [1, 2, 4])
    def test_grey_of_few_bits(self, tmp_path, bits):
        """Decoders stretch such greys to 8 bits: Pillow makes 85 of the class 1 of 2 bits."""
        file = tmp_path / 'a.png'
        file.write_bytes(grey_png(np.tile(np.uint8([0, 1]), (24, 16)), bits))
        if bits == 1:
            assert set(np.unique(load_map(file))) == {0, 255}
            return
        with pytest.raises(BadFileError, match=rf'is a PNG of {bits} bits a pixel, grey'):
            load_map(file)

    def test_every_bit_that_is_flipped_is_noticed_or_does_no_harm(self, tmp_path, labels):
        file = tmp_path / 'a.png'
        save_map(file, labels)
        content, expected = file.read_bytes(), load_map(file)
        for place in range(0, 8 * len(content), 7):
            flipped = bytearray(content)
            flipped[place // 8] ^= 1 << place % 8
            file.write_bytes(flipped)
            with contextlib.suppress(BadFileError):
                assert np.array_equal(load_map(file), expected)

    def test_settings_that_differ(self, tmp_path, labels):
        save_map(tmp_path / 'a.png', labels)
        with pytest.raises(UserError, match=r'reduce_zero_label is True in the data set and False'):
            load_map(tmp_path / 'a.png', reduce_zero_label=False, of_dataset=True)


@pytest.mark.skipif(not REAL_FILES, reason='no real images')
def test_every_real_image_loads():
    for file in REAL_FILES:
        if file.suffix == '.jpg':
            assert load_image(file)['img'].shape == cv2.imread(str(file)).shape
