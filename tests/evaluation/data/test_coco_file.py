"""Malformed annotation files are refused, and valid ones are accepted."""

import contextlib
import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from evaluation.data.coco_faults import decompressed, is_run_length_code
from evaluation.data.coco_file import check_coco, listed
from evaluation.utils.errors import UserError
from tests.commands import ROOT

CLASSES = ['cat', 'dog', 'owl']
REAL = Path(os.environ.get('COCO_ROOT', ROOT.parent / 'shared/real/coco'))


def annotation(number, image, category, **values):
    return {
        'id': number,
        'image_id': image,
        'category_id': category,
        'bbox': [1.5, 2, 10, 10],
        'area': 60.5,
        'segmentation': [[1.5, 2, 11.5, 2, 11.5, 12.0]],
        'iscrowd': 0,
        **values,
    }


SOUND = {
    'images': [
        {'id': 7, 'file_name': 'a.jpg', 'height': 30, 'width': 40},
        {'id': 9, 'file_name': 'b/c.jpg', 'height': 20, 'width': 50},
    ],
    'annotations': [
        annotation(1, 7, 2),
        annotation(2, 9, 5),
        annotation(3, 9, 8, segmentation={'size': [20, 50], 'counts': [0, 1000]}, iscrowd=1),
    ],
    'categories': [
        {'id': number, 'name': name} for number, name in zip((2, 5, 8), CLASSES, strict=True)
    ],
}


def check(tmp_path, content, classes=CLASSES, evaluated=True, with_masks=True):
    file = tmp_path / 'instances.json'
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return check_coco(file, classes, evaluated, with_masks)


def changed(section, entry, **values):
    """Return the valid content with changed values in one entry; None removes a key."""
    content = copy.deepcopy(SOUND)
    merged = content[section][entry] | values
    content[section][entry] = {key: value for key, value in merged.items() if value is not None}
    return content


def test_valid_file(tmp_path, capsys):
    assert check(tmp_path, SOUND) == ['a.jpg', 'b/c.jpg']
    assert capsys.readouterr().err == ''


@pytest.mark.skipif(not REAL.is_dir(), reason='no real COCO images')
@pytest.mark.parametrize('split', ['train', 'val'])
def test_real_files(split, capsys):
    file = REAL / f'annotations/instances_{split}2017.json'
    names = check_coco(file, [c['name'] for c in json.loads(file.read_text())['categories']], True)
    assert set(names) == {image['file_name'] for image in COCO(file).imgs.values()}
    assert capsys.readouterr().err == ''


class TestJson:
    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('', r'is not valid JSON or is truncated \(error at line 1, column 1\);'),
            ('{"images": [\n{"id": 1,', r'error at line 2, column 10\);'),
            ('<html>', r'error at line 1, column 1\);'),
            ('[' * 100_000, 'is not valid JSON'),
            ('[]', 'is a list, like a file of predictions'),
            ('17', 'is not an object'),
        ],
    )
    def test_not_an_object(self, tmp_path, text, message):
        with pytest.raises(UserError, match=message) as raised:
            check(tmp_path, text)
        assert 'give COCO ground truth' in str(raised.value)
        assert '\n' not in str(raised.value)

    def test_not_text(self, tmp_path):
        file = tmp_path / 'instances.json'
        file.write_bytes(b'\x1f\x8b\x08\x00\xff')
        with pytest.raises(UserError, match=r'instances\.json is not valid JSON; give COCO'):
            check_coco(file, CLASSES, True)

    def test_a_folder(self, tmp_path):
        with pytest.raises(UserError, match=r'cannot be read \(Is a directory\)'):
            check_coco(tmp_path, CLASSES, True)

    @pytest.mark.parametrize('section', ['images', 'annotations', 'categories'])
    @pytest.mark.parametrize(
        ('value', 'message'),
        [
            (None, 'has no {}'),
            ({}, '{} is not a list'),
            ([], 'the list of {} is empty'),
            ([3], 'entry 1 of {} is not an object'),
        ],
    )
    def test_sections(self, tmp_path, section, value, message):
        content = {key: part for key, part in SOUND.items() if key != section}
        if value is not None:
            content[section] = value
        with pytest.raises(UserError, match=message.format(section)):
            check(tmp_path, content)


class TestEntries:
    @pytest.mark.parametrize(
        ('values', 'message'),
        [
            ({'id': None}, 'in images, entry 2 has no id'),
            ({'id': [1]}, 'in images, entry 2 has the id \\[1\\], not an integer or a string'),
            ({'id': 9.0}, 'in images, entry 2 has the id 9.0, not an integer or a string'),
            ({'id': 7}, 'in images, 2 entries have the id 7'),
            ({'file_name': None}, 'the entry with id 9 has no file_name'),
            ({'file_name': 3}, 'the entry with id 9 has no file_name'),
            ({'height': 0}, 'the entry with id 9 has the height 0, not a positive integer'),
            ({'height': 40.0}, 'the entry with id 9 has the height 40.0, not a positive integer'),
            ({'height': None}, 'the entry with id 9 has no height'),
            ({'width': '50'}, "the entry with id 9 has the width '50', not a positive integer"),
        ],
    )
    def test_image(self, tmp_path, values, message):
        with pytest.raises(UserError, match=message):
            check(tmp_path, changed('images', 1, **values))

    @pytest.mark.parametrize(
        ('values', 'message'),
        [
            *(
                ({key: None}, f'has no {key}')
                for key in ('id', 'image_id', 'category_id', 'bbox', 'area', 'segmentation', 'iscrowd')
            ),
            ({'id': 1}, 'in annotations, 2 entries have the id 1'),
            ({'image_id': 8}, 'the entry with id 2 has image_id 8, which the file does not list'),
            ({'image_id': [9]}, r'has image_id \[9\], which'),
            ({'category_id': 3}, 'the entry with id 2 has category_id 3, which the file does not list'),
            ({'bbox': [1, 2, 3]}, r'has the bbox \[1, 2, 3\], not four finite numbers'),
            ({'bbox': [1, 2, 3, float('nan')]}, 'not four finite numbers'),
            ({'bbox': [1, 2, float('inf'), 4]}, 'not four finite numbers'),
            ({'bbox': [1, 2, '3', 4]}, 'not four finite numbers'),
            ({'bbox': '1234'}, 'not four finite numbers'),
            ({'area': 'large'}, "has the area 'large', not a finite number"),
            ({'segmentation': []}, 'has no segmentation, but the config uses masks'),
            ({'segmentation': [[]] * 2 + [5]}, 'neither polygons nor a run-length code'),
            ({'segmentation': [1, 2, 3, 4, 5, 6]}, 'neither polygons'),
            ({'segmentation': [[1, 2], [3, 'x']]}, 'neither polygons'),
            ({'segmentation': [[1, 2, float('nan'), 4, 5, 6]]}, 'neither polygons'),
            ({'segmentation': 'abc'}, 'neither polygons'),
            ({'segmentation': {'counts': 'abc'}}, 'not a run-length code of 20 rows, 50 columns'),
            ({'segmentation': {'counts': 5, 'size': [20, 50]}}, 'not a run-length code'),
            ({'segmentation': {'counts': 'abc', 'size': [50, 20]}}, 'not a run-length code'),
        ],
    )
    def test_annotation(self, tmp_path, values, message):
        with pytest.raises(UserError, match=message):
            check(tmp_path, changed('annotations', 1, **values))

    def test_training_does_not_need_iscrowd(self, tmp_path):
        assert check(tmp_path, changed('annotations', 1, iscrowd=None), evaluated=False)

    @given(
        st.sampled_from(['images', 'annotations', 'categories']),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=3),
            max_leaves=8,
        ),
        st.data(),
    )
    def test_any_value_is_accepted_or_refused(self, tmp_path_factory, section, value, data):
        content = copy.deepcopy(SOUND)
        key = data.draw(st.sampled_from(sorted(content[section][1])))
        content[section][1][key] = value
        with contextlib.suppress(UserError):
            check(tmp_path_factory.getbasetemp(), content)


class TestCategories:
    def test_different_classes(self, tmp_path):
        with pytest.raises(UserError) as raised:
            check(tmp_path, SOUND, classes=['Cat', 'Dog', 'Owl', 'Fox'])
        assert 'no category for 4 of the 4 classes (Cat, Dog, Owl and 1 more)' in str(raised.value)
        assert '3 unknown categories (cat, dog, owl)' in str(raised.value)

    def test_missing_category(self, tmp_path):
        with pytest.raises(UserError, match=r'no category for 1 of the 4 classes \(fox\); set'):
            check(tmp_path, SOUND, classes=['cat', 'dog', 'fox', 'owl'])

    @pytest.mark.parametrize('classes', [['dog', 'cat', 'owl'], ['cat', 'owl', 'dog']])
    def test_different_order(self, tmp_path, classes):
        with pytest.raises(UserError, match='twice or in a different order than the classes'):
            check(tmp_path, SOUND, classes=classes)

    def test_order_of_labels_in_mmdet(self, tmp_path):
        """COCO returns category ids in the order of the file, not in the requested order."""
        check(tmp_path, SOUND)
        coco = COCO(tmp_path / 'instances.json')
        assert coco.getCatIds(catNms=['owl', 'cat', 'dog']) == [2, 5, 8]

    def test_duplicate_name(self, tmp_path):
        content = copy.deepcopy(SOUND)
        content['categories'].append({'id': 9, 'name': 'owl'})
        with pytest.raises(UserError, match="lists category 'owl' twice or in a different order"):
            check(tmp_path, content)

    def test_duplicate_id(self, tmp_path):
        with pytest.raises(UserError, match='in categories, 2 entries have the id 2'):
            check(tmp_path, changed('categories', 1, id=2))

    def test_missing_name(self, tmp_path):
        with pytest.raises(UserError, match='in categories, the entry with id 5 has no name'):
            check(tmp_path, changed('categories', 1, name=None))

    def test_subset_of_the_categories_is_accepted(self, tmp_path, capsys):
        assert check(tmp_path, SOUND, classes=['cat', 'owl'])
        warning = capsys.readouterr().err
        assert 'annotations of 1 categories that are not classes (dog) are skipped' in warning

    def test_subset_without_annotations_is_refused(self, tmp_path):
        content = copy.deepcopy(SOUND)
        content['annotations'] = content['annotations'][:1]
        with pytest.raises(UserError, match=r'has no annotation of the classes dog, owl'):
            check(tmp_path, content, classes=['dog', 'owl'])


@pytest.mark.parametrize(
    ('names', 'text'),
    [(['a'], 'a'), (['a', 'b', 'c'], 'a, b, c'), (list('abcde'), 'a, b, c and 2 more')],
)
def test_listed(names, text):
    assert listed(names) == text


class TestBoxesWithoutMasks:
    @pytest.mark.parametrize('segmentation', [None, [], [[]], [[1, 2]], 'abc'])
    def test_unused_masks_are_not_checked(self, tmp_path, segmentation, capsys):
        content = copy.deepcopy(SOUND)
        for entry in content['annotations']:
            entry['segmentation'] = segmentation
        del content['annotations'][0]['segmentation']
        assert check(tmp_path, content, with_masks=False) == ['a.jpg', 'b/c.jpg']
        assert capsys.readouterr().err == ''
        with pytest.raises(UserError, match='has no segmentation, but the config uses masks; add it'):
            check(tmp_path, content)

    def test_boxes_are_still_checked(self, tmp_path):
        with pytest.raises(UserError, match='not four finite numbers'):
            check(tmp_path, changed('annotations', 0, bbox=[1, 2, 3]), with_masks=False)


class TestCompressedCodes:
    """Codes written by pycocotools."""

    @pytest.mark.parametrize('density', [0.0, 0.01, 0.5, 1.0])
    def test_lengths(self, density):
        generator = np.random.default_rng(3)
        for height, width in ((1, 1), (5, 7), (300, 400)):
            mask = (generator.random((height, width)) < density).astype(np.uint8)
            code = coco_mask.encode(np.asfortranarray(mask))
            text = {'size': [height, width], 'counts': code['counts'].decode()}
            flat = np.concatenate([[0], mask.ravel('F'), [2]])
            expected = np.diff(np.flatnonzero(np.diff(flat, prepend=0) != 0) - 1, prepend=0)
            assert decompressed(text['counts']).tolist()[-1] == expected[-1]
            assert is_run_length_code(text, (height, width))
            assert not is_run_length_code(text, (height, width + 1))
            assert not is_run_length_code(text | {'size': [height, width + 1]}, (height, width + 1))

    @pytest.mark.parametrize('counts', ['', 'P', '\x01', 'ééé', 'oooooooooooo0', '0' * 9, None, 7])
    def test_invalid_codes(self, counts):
        assert not is_run_length_code({'size': [8, 8], 'counts': counts}, (8, 8))
