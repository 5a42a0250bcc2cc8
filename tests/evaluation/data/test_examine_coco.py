"""Every kind of damage to data in COCO's layout is found and reported; valid data are clean."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from evaluation.data.examine_coco import misnumbered
from evaluation.utils.errors import UserError
from tests.commands import ROOT
from tests.evaluation.data.looking import look

REAL = Path(os.environ.get('COCO_ROOT', ROOT.parent / 'shared/real/coco'))
TRAIN = 'annotations/instances_train2017.json'


def is_a_crowd(annotation):
    return annotation['iscrowd']


@pytest.fixture
def root(scenes, tmp_path):
    root = shutil.copytree(scenes / 'coco', tmp_path / 'coco')
    # Tests damage the first annotation; make sure that it has polygons.
    edit(root / TRAIN, lambda content: content['annotations'].sort(key=is_a_crowd))
    return root


def of_first(section, **values):
    """Return a function that changes the first entry of a list; None removes a key."""

    def change(content):
        merged = content[section][0] | values
        content[section][0] = {key: value for key, value in merged.items() if value is not None}

    return change


def on_box(change_box):
    def change(content):
        first = content['annotations'][0]
        first['bbox'] = change_box(*first['bbox'])

    return change


def repeated(section, **values):
    """Return a function that repeats the first entry with changed values."""

    def change(content):
        content[section].append(content[section][0] | values)

    return change


def with_ids_as_texts(content):
    content['annotations'][0]['id'] = 'first'


def on_code(content):
    """Replace the polygons with a run-length code of a corner."""
    code = {'size': [64, 64], 'counts': [0, 3, 61, 3, 4096 - 67]}
    content['annotations'][0].update(segmentation=code, bbox=[20, 20, 30, 30], area=6)


NAN = float('nan')
IN_FILE = {
    'box without area': (on_box(lambda x, y, w, h: [x, y, 0, h]), 'boxes without area'),
    'box outside': (on_box(lambda x, y, w, h: [x + 100, y, w, h]), 'boxes outside the image'),
    'box far outside': (on_box(lambda x, y, w, h: [-1e9, y, w, h]), 'boxes outside the image'),
    'box that does not fit the code': (on_code, 'boxes that do not fit their masks'),
    'box half outside': (
        on_box(lambda x, y, w, h: [x, y, w + 64, h]),
        'boxes partly outside the image',
    ),
    'corners instead of sides': (
        on_box(lambda x, y, w, h: [x, y, x + w, y + h]),
        'boxes that do not fit their masks',
    ),
    'box of another object': (
        on_box(lambda x, y, w, h: [0, 0, 7, 7]),
        'boxes that do not fit their masks',
    ),
    'NaN in a box': (on_box(lambda x, y, w, h: [x, NAN, w, h]), 'malformed boxes'),
    'box of three numbers': (on_box(lambda x, y, w, h: [x, y, w]), 'malformed boxes'),
    'box of strings': (on_box(lambda x, y, w, h: ['1', '2', '3', '4']), 'malformed boxes'),
    'no box': (of_first('annotations', bbox=None), 'malformed entries'),
    'area of NaN': (of_first('annotations', area=NAN), 'wrong areas'),
    'area of 0': (of_first('annotations', area=0), 'wrong areas'),
    'negative area': (of_first('annotations', area=-5.0), 'wrong areas'),
    'area larger than the box': (of_first('annotations', area=1e6), 'wrong areas'),
    'area of 400 digits': (of_first('annotations', area=10**400), 'wrong areas'),
    'no polygon': (of_first('annotations', segmentation=[]), 'missing masks'),
    'empty polygon': (of_first('annotations', segmentation=[[]]), 'masks without area'),
    'two points': (of_first('annotations', segmentation=[[1, 1, 9, 9]]), 'masks without area'),
    'points on a line': (
        of_first('annotations', segmentation=[[1, 1, 9, 9, 5, 5]]),
        'masks without area',
    ),
    'a polygon with huge numbers': (
        of_first('annotations', segmentation=[[0, 0, 1e12, 0, 0, 1e12]]),
        'malformed masks',
    ),
    'a code of a different size': (
        of_first('annotations', segmentation={'size': [2, 2], 'counts': [4]}),
        'run-length codes of a different size',
    ),
    'a code longer than its image': (
        of_first('annotations', segmentation={'size': [64, 64], 'counts': [0, 9999999]}),
        'run-length codes of a different size',
    ),
    'unknown image': (of_first('annotations', image_id=999), 'annotations of unknown images'),
    'unknown category': (of_first('annotations', category_id=99), 'annotations of unknown categories'),
    'a list as an id': (of_first('annotations', image_id=[1]), 'annotations of unknown images'),
    'one annotation twice': (repeated('annotations'), 'duplicate ids of annotations'),
    'one image twice': (repeated('images', file_name='x.jpg'), 'duplicate ids of images'),
    'one file twice': (repeated('images', id=77), 'duplicate file_names of images'),
    'no height': (of_first('images', height=None), 'malformed entries'),
    'a giant image': (of_first('images', height=60_000, width=60_000), 'images with too many pixels'),
    'one category twice': (repeated('categories', id=99), 'duplicate names of categories'),
    'a different width': (
        of_first('images', width=65),
        'images with a different size than their annotations',
    ),
    'a name with parent folders': (
        of_first('images', file_name='../../etc/passwd'),
        'file names that point outside the image folder',
    ),
    'an absolute name': (
        of_first('images', file_name='/etc/passwd'),
        'file names that point outside the image folder',
    ),
    'an unpaired surrogate in a name': (of_first('images', file_name='\ud800.jpg'), 'malformed entries'),
    'no file name': (of_first('images', file_name=3), 'malformed entries'),
    'a different file': (of_first('images', file_name='x.jpg'), 'missing images'),
    'not an object': (lambda content: content['annotations'].append(7), 'malformed entries'),
    'ids of two types': (with_ids_as_texts, 'ids of two types'),
    'iscrowd that is neither 0 nor 1': (of_first('annotations', iscrowd='yes'), 'malformed entries'),
}


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def cut(file):
    file.write_bytes(file.read_bytes()[:-200])


def resized(file):
    Image.new('RGB', (20, 64)).save(file)


IN_FILES = {
    'missing images': Path.unlink,
    'truncated images': cut,
    'empty files': lambda file: file.write_bytes(b''),
    'undecodable images': lambda file: file.write_text('<html>404</html>'),
    'images with a different size than their annotations': resized,
}


def test_valid_data(root):
    found = look(root)
    assert not found.findings
    assert found.counts['images'] == 6


@pytest.mark.skipif(not REAL.is_dir(), reason='no real COCO images')
def test_real_data():
    found = look(REAL)
    assert not found.findings
    assert found.counts['annotations'] == sum(
        len(COCO(file).anns) for file in REAL.glob('annotations/*.json')
    )


@pytest.mark.parametrize('damage', IN_FILE)
def test_damaged_annotation_file(root, damage):
    change, kind = IN_FILE[damage]
    edit(root / TRAIN, change)
    before = (root / TRAIN).read_bytes()
    assert kind in look(root).by_kind()
    assert (root / TRAIN).read_bytes() == before


@pytest.mark.parametrize('kind', IN_FILES)
def test_damaged_image(root, kind):
    image = root / 'train2017/000000000002.jpg'
    IN_FILES[kind](image)
    found = look(root)
    assert [(each.kind, each.subject) for each in found.findings] == [
        (kind, 'train2017/000000000002.jpg')
    ]


def test_all_damage_at_once(root):
    """Each kind of damage is done to a different annotation."""
    count = len(json.loads((root / TRAIN).read_text())['annotations'])
    damage = list(IN_FILE.values())[: min(20, count)]

    def change_all(content):
        for change, _ in damage:
            change(content)
            content['annotations'].append(content['annotations'].pop(0))

    edit(root / TRAIN, change_all)
    assert {kind for _, kind in damage} <= look(root).by_kind().keys()


def test_different_categories(root):
    edit(root / TRAIN, lambda content: content['categories'].reverse())
    (finding,) = look(root).findings
    assert finding.kind == 'categories that differ'
    assert finding.text == 'has different categories than instances_train2017.json, or a different order'


def test_area_of_a_tiny_box_is_not_a_finding(root):
    """The area is a little more than twice that of the box."""

    def change(content):
        polygon = [[20, 20, 22, 20, 22, 22, 20, 22]]
        content['annotations'][0].update(bbox=[20, 20, 2, 2], segmentation=polygon, area=15.0)

    edit(root / TRAIN, change)
    assert not look(root).findings


def test_missing_image_folder(root):
    shutil.rmtree(root / 'val2017')
    (finding,) = look(root).findings
    assert finding.kind == 'missing image folders'


class TestNumbersOfFiles:
    """Two of a hundred images have swapped ids, so their objects are ambiguous."""

    images = tuple({'id': n, 'file_name': f'{n:012}.jpg'} for n in range(1, 101))

    def test_images_with_the_id_of_another(self):
        images = [dict(image) for image in self.images]
        images[3]['id'], images[7]['id'] = 8, 4
        assert misnumbered(images) == {f'{4:012}.jpg': 8, f'{8:012}.jpg': 4}
        assert misnumbered([*self.images]) == {}

    def test_names_that_do_not_follow_ids(self):
        """Ids that start at 0 or have a different order are not mistakes, nor are names without ids."""
        assert misnumbered([{**image, 'id': image['id'] - 1} for image in self.images]) == {}
        assert misnumbered([{**image, 'id': 101 - image['id']} for image in self.images]) == {}
        assert misnumbered([{**image, 'file_name': 'a.jpg'} for image in self.images]) == {}
        assert misnumbered([{'id': 'x', 'file_name': '1.jpg'}, {'id': 1}, 'no object']) == {}
        assert misnumbered([{'id': 1, 'file_name': f'{"1" * 5000}.jpg'}]) == {}


class TestBoxesWithoutMasks:
    """Annotations without masks, for detectors with and without masks."""

    CONFIG = """
default_scope = 'mmdet'
model = dict(type='{kind}', backbone=dict(type='ResNet'), {head}=dict(type='Head'))
train_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadAnnotations', with_mask=True)]))
"""

    @pytest.fixture
    def boxes(self, root):
        def change(content):
            for number, entry in enumerate(content['annotations']):
                del entry['segmentation']
                entry |= [{}, {'segmentation': []}, {'segmentation': None}][number % 3]

        for file in (root / 'annotations').glob('*.json'):
            edit(file, change)
        return root

    @pytest.fixture
    def config(self, tmp_path):
        def write(kind, head):
            file = tmp_path / f'{kind}.py'
            file.write_text(self.CONFIG.format(kind=kind, head=head))
            return file

        return write

    def test_detector_without_masks_needs_none(self, boxes, config):
        assert not look(boxes, config=config('RetinaNet', 'bbox_head')).findings

    def test_detector_with_masks_needs_them(self, boxes, config, capsys):
        found = look(boxes, config=config('SOLO', 'mask_head'))
        assert {*found.by_kind()} == {'missing masks'}
        assert len(found.findings) == found.counts['annotations']
        assert 'warning' not in capsys.readouterr().err

    def test_masks_are_needed_without_a_config(self, boxes, capsys):
        assert {*look(boxes).by_kind()} == {'missing masks'}
        assert 'give its --config' in capsys.readouterr().err

    def test_boxes_without_masks_are_examined(self, boxes, config):
        edit(boxes / TRAIN, on_box(lambda x, y, w, h: [x, y, w + 64, h]))
        edit(boxes / TRAIN, lambda content: content['annotations'][1].update(area=-1))
        found = look(boxes, config=config('RetinaNet', 'bbox_head'))
        assert {*found.by_kind()} == {'boxes partly outside the image', 'wrong areas'}

    def test_config_of_a_different_task(self, boxes, tmp_path):
        file = tmp_path / 'segmentor.py'
        file.write_text("default_scope = 'mmseg'\nmodel = dict(type='EncoderDecoder')\n")
        with pytest.raises(UserError, match='is not for a detector'):
            look(boxes, config=file)
