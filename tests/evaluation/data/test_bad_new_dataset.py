"""Data of users that cannot be used: one error line, nothing written."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.own_data import coco_folder, edit_json, mask_folder, voc_folder
from tests.refusals import refusal

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


def drop_first(key):
    return lambda root: edit_json(root / 'export.json', lambda c: c['annotations'][0].pop(key))


def in_coco(change):
    return lambda root: edit_json(root / 'export.json', change)


def repeat(section):
    return in_coco(lambda c: c[section].append(dict(c[section][0])))


def truncate(file):
    file.write_bytes(file.read_bytes()[:200])


def to_color(root):
    file = next((root / 'masks').iterdir())
    Image.open(file).convert('RGB').save(file)


def resize_mask(root):
    file = next((root / 'masks').iterdir())
    cv2.imwrite(str(file), np.zeros((9, 9), np.uint8))


BAD_COCO = {
    'a missing image': (lambda r: (r / 'photos/shot-1.jpg').unlink(), '1 of the 10 images of'),
    'a truncated image': (lambda r: truncate(r / 'photos/shot-1.jpg'), 'is truncated'),
    'no annotations': (in_coco(lambda c: c.update(annotations=[])), 'list of annotations is empty'),
    'no categories': (in_coco(lambda c: c.update(categories=[])), 'list of categories is empty'),
    'no images in the file': (in_coco(lambda c: c.update(images=[])), 'list of images is empty'),
    'not JSON': (lambda r: (r / 'export.json').write_text('{'), 'is not valid JSON'),
    'duplicate ids of images': (repeat('images'), '2 entries have the id 13'),
    'duplicate ids of annotations': (repeat('annotations'), '2 entries have the id'),
    'duplicate ids of categories': (repeat('categories'), '2 entries have the id'),
    'duplicate names of categories': (
        in_coco(lambda c: c['categories'].append({'id': 1, 'name': 'disc'})),
        "several categories with the name 'disc'",
    ),
    'one image twice': (
        in_coco(lambda c: c['images'].append({**c['images'][0], 'id': 1})),
        'lists the image photos/shot-0.jpg 2 times',
    ),
    'annotations that are no objects': (
        in_coco(lambda c: c.update(annotations=[1, 2])),
        'entry 1 of annotations is not an object',
    ),
    'masks for some objects': (drop_first('segmentation'), 'annotations have no segmentation'),
    'neither box nor mask': (
        in_coco(lambda c: [c['annotations'][0].pop(k) for k in ('segmentation', 'bbox')]),
        'has no bbox',
    ),
    'an unknown category': (
        in_coco(lambda c: c['annotations'][0].update(category_id=4)),
        'has category_id 4, which the file does not list',
    ),
    'a name that leads out of the folder': (
        in_coco(lambda c: c['images'][0].update(file_name='../a.jpg')),
        'points outside the image folder',
    ),
    'two images of the name': (
        lambda r: shutil.copytree(r / 'photos', r / 'copy'),
        'which could be copy/shot-0.jpg or photos/shot-0.jpg',
    ),
    'several files': (
        lambda r: shutil.copy(r / 'export.json', r / 'again.json'),
        'has 2 COCO files, again.json, export.json',
    ),
    'one image for two splits': (
        lambda r: (
            [shutil.copy(r / 'export.json', r / f'{n}.json') for n in ('train', 'val')]
            and (r / 'export.json').unlink()
        ),
        '10 images are listed for both training and validation',
    ),
    'masks in a second format': (
        lambda r: shutil.copytree(r / 'photos', r / 'masks'),
        'annotations in several formats: coco (export.json), masks (masks/shot-0.jpg)',
    ),
}
BAD_MASKS = {
    'a mask of another size': (resize_mask, 'is 9x9 pixels, but its image is 64x64'),
    'masks in color': (to_color, 'is a PNG of mode RGB'),
    'a truncated mask': (lambda r: truncate(next((r / 'masks').iterdir())), 'is truncated'),
    'an image without a mask': (
        lambda r: next((r / 'masks').iterdir()).unlink(),
        '1 of the 13 images of',
    ),
    'a mask without an image': (
        lambda r: next((r / 'images').iterdir()).unlink(),
        '1 of the 13 masks of',
    ),
    'only masks': (lambda r: shutil.rmtree(r / 'images'), '13 of the 13 masks of'),
    'one class': (
        lambda r: [cv2.imwrite(str(f), np.zeros((64, 64), np.uint8)) for f in (r / 'masks').iterdir()],
        'have the values 0, without the ignored 255 fewer than two classes',
    ),
    'a value without a name': (
        lambda r: (r / 'classes.txt').write_text('nothing\nground\n'),
        'names the values 0 to 1, but masks have the value 2',
    ),
    'a name twice': (
        lambda r: (r / 'classes.txt').write_text('a\nb\na\n'),
        "line 1, has the name 'a' of another line",
    ),
    'a split of some images': (
        lambda r: (
            [(r / kind / 'val').mkdir() for kind in ('images', 'masks')]
            and [
                next((r / kind).glob(f'*1{end}')).rename(r / kind / 'val' / f'own{end}')
                for kind, end in (('images', '.jpg'), ('masks', '.png'))
            ]
        ),
        'some images belong to val, and some to no split',
    ),
    'a space at the end of a name': (
        lambda r: [
            next((r / kind).glob(f'*1{end}')).rename(r / kind / f' own{end}')
            for kind, end in (('images', '.jpg'), ('masks', '.png'))
        ],
        'has a space at an end of its name',
    ),
}


def change_xml(change):
    def apply(root):
        file = min((root / 'Annotations').iterdir())
        file.write_text(change(file.read_text()))

    return apply


def image_sets(**lists):
    def write(root):
        (root / 'ImageSets/Main').mkdir(parents=True)
        for part, content in lists.items():
            (root / f'ImageSets/Main/{part}.txt').write_bytes(content)

    return write


BAD_VOC = {
    'an image in two lists': (
        image_sets(train=b'000000000001\n', val=b'000000000001\n'),
        'val.txt lists 000000000001, which is also a train image; remove it from one list',
    ),
    'a list that is not UTF-8': (image_sets(train=b'\xff\xfe0\n'), 'give one name per line, as UTF-8'),
    'lists of other images': (image_sets(train=b'a\n', val=b'b\n'), 'list no image of the XML files'),
    'a document type': (change_xml(lambda t: f'<!DOCTYPE a>{t}'), 'declares a document type'),
    'entities': (
        change_xml(lambda t: f'<!DOCTYPE a [<!ENTITY b "c">]>{t.replace("disc", "&b;")}'),
        'declares a document type',
    ),
    'not XML': (change_xml(lambda t: t[:-5]), 'is not valid XML'),
    'no size': (change_xml(lambda t: t.replace('width>', 'w>')), 'has no size/width'),
    'a size that is no number': (
        change_xml(lambda t: t.replace('<width>64', '<width>wide')),
        "has the size/width 'wide', not a number",
    ),
    'a different element': (
        change_xml(lambda t: t.replace('annotation>', 'other>')),
        "has the element 'other'",
    ),
    'a missing image': (
        lambda r: min((r / 'JPEGImages').iterdir()).unlink(),
        "is for the image '000000000001.jpg', which is missing",
    ),
    'a wrong size': (change_xml(lambda t: t.replace('<width>64', '<width>65')), '64x64'),
}
BAD = [
    (folder, given) for folder, rows in ((0, BAD_COCO), (1, BAD_MASKS), (2, BAD_VOC)) for given in rows
]


@pytest.mark.parametrize(('kind', 'given'), BAD, ids=lambda value: str(value))
def test_bad_data_are_refused_and_nothing_is_written(make, own_scenes, root, pages, kind, given):
    (coco_folder, mask_folder, voc_folder)[kind](root, own_scenes)
    damage, message = (BAD_COCO, BAD_MASKS, BAD_VOC)[kind][given]
    damage(root)
    before = {*root.rglob('*'), *pages.rglob('*')}
    assert message in refusal(make)
    assert {*root.rglob('*'), *pages.rglob('*')} == before


@pytest.mark.parametrize(
    ('count', 'message'), [(1, 'has 1 images, 1 with annotations; give at least two')]
)
def test_one_image_is_too_few(make, own_scenes, root, count, message):
    coco_folder(root, own_scenes, count=count)
    assert message in refusal(make)


@pytest.mark.parametrize('name', ['', 'Fruit', '2fruit', 'my fruit', 'class', '../fruit', 'früchte'])
def test_names_that_pages_cannot_have_are_refused(make, own_scenes, root, name):
    coco_folder(root, own_scenes, count=3)
    assert 'cannot be the name of a recipe page' in refusal(lambda: make(name=name))
