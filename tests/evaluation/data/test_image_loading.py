"""Valid images load as in mmcv; damaged ones raise a one-line error, also in worker processes."""

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
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from PIL import Image
from torch.utils.data import DataLoader

import backbones  # noqa: F401  (before mmseg, which needs its operators)
import evaluation.data.segmentation_map  # noqa: F401
from evaluation.data.image_files import (
    ADVICE,
    MOST_BYTES,
    BadFileError,
    check_size,
    is_truncated,
    read_whole,
)
from evaluation.data.image_loading import (
    LoadCheckedImage,
    with_checked_loading,
    without_truth,
    yield_errors,
)
from evaluation.utils.errors import UserError
from tests.commands import ROOT

SHARED = ROOT.parent / 'shared/real'
REAL = [Path(os.environ.get('COCO_ROOT', SHARED / 'coco')), SHARED / 'ADEChallengeData2016']
REAL_FILES = sorted(file for root in REAL for kind in ('jpg', 'png') for file in root.rglob(f'*.{kind}'))


def picture(height=24, width=32):
    """Return random pixels (H, W, 3), which hardly compress."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(format, **options):
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, format, **options)
    return file.getvalue()


def with_thumbnail(jpeg):
    """Return a JPEG with a complete JPEG in its header, as written by cameras."""
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
    """Return a PNG of a few bytes that claims to have a hundred thousand pixels per side."""
    chunk = b'IHDR' + struct.pack('>IIBBBBB', 100_000, 100_000, 8, 0, 0, 0, 0)
    header = struct.pack('>I', 13) + chunk + struct.pack('>I', zlib.crc32(chunk))
    return WHOLE['png'][:8] + header + WHOLE['png'][33:]


# PostScript decoders execute it as a program.
POSTSCRIPT = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\nshowpage\n%%EOF\n'


def gray_png(values, bits):
    """Return a grayscale PNG of values (H, W) with few bits per pixel, which Pillow cannot write."""
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
    def test_complete_files(self, kind):
        assert not is_truncated(WHOLE[kind])
        assert cv2.imdecode(np.frombuffer(WHOLE[kind], np.uint8), cv2.IMREAD_COLOR) is not None

    @pytest.mark.parametrize('kind', WHOLE)
    @given(trailing=st.binary(max_size=99))
    def test_bytes_after_the_end_are_harmless(self, kind, trailing):
        assert not is_truncated(WHOLE[kind] + trailing)

    @pytest.mark.parametrize('kind', WHOLE)
    def test_every_shorter_file_is_truncated(self, kind):
        content = WHOLE[kind]
        signature = 2 if content.startswith(b'\xff\xd8') else 8
        assert all(is_truncated(content[:length]) for length in range(signature, len(content)))

    def test_other_formats_are_left_to_the_decoder(self):
        content = encoded('bmp')
        assert not is_truncated(content)
        assert not is_truncated(content[:50])

    @given(st.binary(max_size=200), st.sampled_from([b'', b'\xff\xd8', b'\x89PNG\r\n\x1a\n']))
    def test_any_bytes_get_an_answer(self, content, start):
        assert is_truncated(start + content) in (True, False)

    @pytest.mark.skipif(not REAL_FILES, reason='no real images')
    def test_no_real_image_is_truncated(self):
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

    def test_pipe_does_not_block(self, tmp_path):
        os.mkfifo(tmp_path / 'a.jpg')
        with pytest.raises(BadFileError, match=r'a\.jpg is not a file; restore it'):
            read_whole(str(tmp_path / 'a.jpg'), None)

    def test_invalid_file_name(self):
        with pytest.raises(BadFileError, match=r'cannot be read \(embedded null byte\)'):
            read_whole('a\0.jpg', None)

    def test_more_bytes_than_any_image(self, tmp_path):
        with open(tmp_path / 'a.jpg', 'wb') as file:
            file.truncate(MOST_BYTES + 1)
        with pytest.raises(BadFileError, match=r'has 1,073,741,825 bytes, more than any image'):
            read_whole(str(tmp_path / 'a.jpg'), None)

    @pytest.mark.parametrize(
        ('height', 'width', 'accepted'), [(13_000, 13_765, True), (13_000, 13_767, False)]
    )
    def test_most_pixels(self, height, width, accepted):
        """179 million; the largest images of ImageNet have fewer than 100 million."""
        content = gray_png(np.zeros((1, 1), np.uint8), 8)
        content = content[:16] + struct.pack('>II', width, height) + content[24:]
        with contextlib.nullcontext() if accepted else pytest.raises(BadFileError, match='claims'):
            check_size(content[:29] + struct.pack('>I', zlib.crc32(content[12:29])) + content[33:], 'a')

    def test_wrong_checksum(self, tmp_path):
        content = bytearray(WHOLE['png'])
        content[60] ^= 4
        (tmp_path / 'a.png').write_bytes(content)
        with pytest.raises(BadFileError, match=r'a\.png is corrupt \(a checksum'):
            read_whole(str(tmp_path / 'a.png'), None)

    def test_truncated(self, tmp_path):
        (tmp_path / 'a.jpg').write_bytes(WHOLE['jpeg'][:-1])
        with pytest.raises(BadFileError, match=r'a\.jpg is truncated'):
            read_whole(str(tmp_path / 'a.jpg'), None)


class TwoImages(BaseDataset):
    """Two images; the second is truncated."""

    def load_data_list(self):
        return [{'img_path': f'{self.data_root}/{name}'} for name in ('a.jpg', 'b: c.jpg')]


class TestError:
    def test_is_a_user_error(self):
        assert issubclass(BadFileError, UserError)

    @pytest.mark.parametrize('num_workers', [0, 2])
    def test_data_loader_keeps_the_error(self, tmp_path, num_workers):
        (tmp_path / 'a.jpg').write_bytes(WHOLE['jpeg'])
        (tmp_path / 'b: c.jpg').write_bytes(WHOLE['jpeg'][:-9])
        dataset = TwoImages(data_root=str(tmp_path), pipeline=[{'type': 'LoadCheckedImage'}])
        loader = DataLoader(dataset, 1, num_workers=num_workers, collate_fn=list)
        yield_errors(loader)
        [image], error = loader
        assert image['img_path'] == f'{tmp_path}/a.jpg'
        assert type(error) is BadFileError
        assert str(error) == f'{tmp_path}/b: c.jpg is truncated, as after an interrupted copy; {ADVICE}'
        assert error.kind == 'truncated images'

    def test_survives_pickling(self):
        again = pickle.loads(pickle.dumps(BadFileError('a: b', 'empty files')))
        assert (str(again), again.kind) == ('a: b', 'empty files')


def load_image(file, **stated):
    return LoadCheckedImage().transform({'img_path': str(file), **stated})


class TestImage:
    @pytest.mark.parametrize('kind', ['jpeg', 'progressive jpeg', 'png'])
    @pytest.mark.parametrize('options', [{}, {'to_float32': True}, {'color_type': 'grayscale'}])
    def test_loads_as_mmcv(self, tmp_path, kind, options):
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
        with pytest.raises(BadFileError, match=r'a\.jpg cannot be decoded as an image'):
            transform.transform({'img_path': str(file)})

    def test_size_must_match_the_annotations(self, tmp_path):
        file = tmp_path / 'a.jpg'
        file.write_bytes(WHOLE['jpeg'])
        assert load_image(file, height=24, width=32)['ori_shape'] == (24, 32)
        with pytest.raises(BadFileError, match=r'is 32x24 pixels, but its annotations are for 33x24'):
            load_image(file, height=24, width=33)
        with pytest.raises(BadFileError, match=r'is 32x24 pixels, but its annotations are for 32x20'):
            load_image(file, height=20, width=32)


@pytest.mark.skipif(not REAL_FILES, reason='no real images')
def test_every_real_image_loads():
    for file in REAL_FILES:
        if file.suffix == '.jpg':
            assert load_image(file)['img'].shape == cv2.imread(str(file)).shape


def names(pipeline):
    return [step['type'] for step in pipeline]


@pytest.mark.habits
def test_loaders_are_replaced_in_wrapped_data_sets():
    steps = [{'type': 'mmcv.LoadImageFromFile', 'color_type': 'color'}, {'type': 'LoadAnnotations'}]
    inner = {'type': 'BaseSegDataset', 'metainfo': {'classes': ['a', 'b']}, 'pipeline': steps}
    wrapped = {'type': 'RepeatDataset', 'times': 2, 'dataset': inner}
    wrapped = ConfigDict(type='ConcatDataset', datasets=[wrapped])
    pipeline = with_checked_loading(wrapped, 'mmseg').datasets[0].dataset.pipeline
    assert pipeline[0] == {'type': 'LoadCheckedImage', 'color_type': 'color'}
    assert pipeline[1] == {'type': 'LoadCheckedSegmentationMap', 'num_classes': 2}
    assert names(wrapped.datasets[0].dataset.pipeline) == ['mmcv.LoadImageFromFile', 'LoadAnnotations']


@pytest.mark.habits
def test_plain_dict_is_accepted():
    steps = [{'type': 'LoadAnnotations'}]
    dataset = {'type': 'BaseSegDataset', 'metainfo': {'classes': ['a', 'b']}, 'pipeline': steps}
    assert with_checked_loading(dataset, 'mmseg')['pipeline'][0]['num_classes'] == 2


@pytest.mark.habits
def test_detection_keeps_the_annotation_loader_of_mmdet():
    dataset = {'type': 'CocoDataset', 'pipeline': [{'type': 'LoadAnnotations', 'with_bbox': True}]}
    assert with_checked_loading(dataset, 'mmdet') == dataset


@pytest.mark.habits
def test_without_truth_keeps_all_views():
    views = [[{'type': 'Resize'}], [{'type': 'LoadAnnotations'}], [{'type': 'PackDetInputs'}]]
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'TestTimeAug', 'transforms': views}]
    kept = without_truth(pipeline)
    assert names(kept) == ['LoadImageFromFile', 'TestTimeAug']
    assert [names(view) for view in kept[1]['transforms']] == [['Resize'], ['PackDetInputs']]
