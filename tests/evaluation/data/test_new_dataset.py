"""Recipes for data sets of users: what is found, written and checked."""

import json
import shutil
from collections import Counter
from functools import partial

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import backbones  # noqa: F401  (before mmdet and mmseg, which need its operators)
from evaluation.config.contestants import open_config
from evaluation.config.masks import leave_out_unused_masks
from evaluation.config.whole_config import check_config
from evaluation.data.new_dataset import name_of_folder, new_dataset
from evaluation.data.prepared_dataset import Options
from evaluation.data.startup_checks import check_data
from evaluation.demo.scene_datasets import write_datasets
from evaluation.demo.scenes import SceneStyle
from tests.own_data import (
    coco_folder,
    edit_json,
    instances,
    mask_folder,
    pages_in,
    voc_folder,
    xml_object,
)
from tests.refusals import refusal

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
IMAGES = 10
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('own')
    style = SceneStyle(height=64, width=64, empty_probability=0, crowd_probability=0.3)
    write_datasets(folder, style, {'train': IMAGES, 'val': 3}, seed=0)
    return folder


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    return pages_in(tmp_path_factory.mktemp('pages'))


@pytest.fixture
def root(tmp_path):
    return tmp_path / 'fruit'


@pytest.fixture
def make(root, pages):
    """Write a recipe and return its text; pages are removed after the test."""
    before = {*pages.iterdir()}

    def write(**more):
        options = {
            'root': root,
            'name': None,
            'kind': None,
            'boxes': False,
            'ignored': [255],
            'share': 0.2,
            'seed': 0,
            'force': False,
            'pages': pages,
        }
        return new_dataset(Options(**(options | more)))

    yield write
    for page in {*pages.iterdir()} - before:
        page.unlink() if page.is_file() else shutil.rmtree(page)


def written(root, name='fruit'):
    """Return the written annotation files."""
    folder = root / 'dense_mixer_bench' / name
    return [json.loads((folder / f'{part}.json').read_text()) for part in ('train', 'val')]


def opened(pages, name='fruit'):
    """Return the config of a page with a backbone, after all checks before a training."""
    cfg, warnings = open_config(str(pages / f'{name}.py'), 'swin_micro', {})
    assert not warnings
    leave_out_unused_masks(cfg)
    check_config(cfg, LOADERS, 1)
    check_data(cfg, LOADERS)
    return cfg


VARIANTS = {
    'other names and ids': {},
    'no area, crowds or boxes': {'without': ('area', 'iscrowd', 'bbox')},
    'no ids of annotations': {'without': ('id',)},
    'three images': {'count': 3},
    'one class': {'one_class': True},
    'run-length codes': {'rle': True},
    'Unicode': {'unicode': True},
}


@pytest.mark.parametrize('variant', VARIANTS)
def test_objects_are_the_same_under_new_names(make, scenes, root, pages, variant):
    """Boxes, areas and masks are those of the scenes, which are exact."""
    given = coco_folder(root, scenes, **VARIANTS[variant])
    before = {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}
    make()
    contents = written(root)
    truth = {entry['id']: entry for entry in instances(scenes)['annotations']}
    expected = Counter()
    for number, entry in enumerate(given['annotations']):
        scene = truth[entry.get('id', number + 1001) - 1000]
        name = next(c['name'] for c in given['categories'] if c['id'] == entry['category_id'])
        crowd = scene['iscrowd'] if 'iscrowd' in entry else 0
        expected[entry['image_id'], name, tuple(scene['bbox']), scene['area'], crowd] += 1
    found = Counter()
    for content in contents:
        names = {category['id']: category['name'] for category in content['categories']}
        for entry in content['annotations']:
            key = entry['image_id'], names[entry['category_id']], tuple(entry['bbox'])
            found[(*key, entry['area'], entry['iscrowd'])] += 1
    assert found == expected
    listed = [image['file_name'] for content in contents for image in content['images']]
    assert sorted(listed) == sorted(f'photos/{image["file_name"]}' for image in given['images'])
    assert {path: path.read_bytes() for path in before} == before
    cfg = opened(pages)
    classes = [category['name'] for category in contents[0]['categories']]
    assert [*cfg.train_dataloader.dataset.metainfo.classes] == classes
    assert [*classes] == [c['name'] for c in given['categories'] if c['name'] in {k[1] for k in found}]


def test_masks_of_objects_stay_as_they_are(make, scenes, root):
    given = coco_folder(root, scenes, rle=True)
    make()
    kept = [entry['segmentation'] for content in written(root) for entry in content['annotations']]
    assert sorted(map(str, kept)) == sorted(str(e['segmentation']) for e in given['annotations'])


def test_area_of_polygons_is_that_of_their_pixels(make, scenes, root):
    given = coco_folder(root, scenes)
    polygon = [3.0, 3.0, 20.5, 4.0, 9.0, 30.0]
    edit_json(root / 'export.json', lambda c: c['annotations'][0].update(segmentation=[polygon]))
    edit_json(root / 'export.json', lambda c: [c['annotations'][0].pop(k) for k in ('area', 'bbox')])
    make()
    code = coco_mask.merge(coco_mask.frPyObjects([polygon], 64, 64))
    pixels = coco_mask.decode(code)
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
    (entry,) = [
        e for content in written(root) for e in content['annotations'] if e['segmentation'] == [polygon]
    ]
    assert entry['image_id'] == given['annotations'][0]['image_id']
    assert (entry['area'], entry['bbox']) == (pixels.sum(), box)


def test_given_split_is_kept(make, scenes, root, pages):
    """Roboflow's layout: a folder for each split, with images and `_annotations.coco.json`."""
    for split, own in (('train', 'train'), ('val', 'valid')):
        shutil.copytree(scenes / f'coco/{split}2017', root / own)
        content = json.dumps(instances(scenes, split))
        (root / own / '_annotations.coco.json').write_text(content)
    (root / 'test').mkdir()
    shutil.copy(root / 'valid/_annotations.coco.json', root / 'test')
    text = make()
    train, val = written(root)
    assert [image['file_name'] for image in val['images']] == [
        f'valid/{image["file_name"]}' for image in instances(scenes, 'val')['images']
    ]
    assert {image['file_name'][:6] for image in train['images']} == {'train/'}
    assert 'Split: 10 training and 3 validation images, as the files state.' in text
    opened(pages)


def test_objects_without_masks_get_a_detector_of_boxes(make, scenes, root, pages):
    coco_folder(root, scenes, without=('segmentation', 'area'))
    assert 'for Faster R-CNN on boxes' in make()
    for content in written(root):
        for entry in content['annotations']:
            assert entry['area'] == entry['bbox'][2] * entry['bbox'][3]
    cfg = opened(pages)
    assert (cfg.model.type, cfg.recipe.title) == ('FasterRCNN', 'Faster R-CNN')


def test_voc_boxes_are_those_of_the_scenes(make, scenes, root, pages):
    truth = voc_folder(root, scenes)
    make()
    names = {category['id']: category['name'] for category in truth['categories']}
    by_image = {image['id']: image['file_name'] for image in truth['images']}
    expected = Counter(
        (by_image[e['image_id']], names[e['category_id']], *e['bbox']) for e in truth['annotations']
    )
    found = Counter()
    for content in written(root):
        by_image = {image['id']: image['file_name'] for image in content['images']}
        names = {category['id']: category['name'] for category in content['categories']}
        for entry in content['annotations']:
            name = by_image[entry['image_id']].removeprefix('JPEGImages/')
            found[(name, names[entry['category_id']], *entry['bbox'])] += 1
    assert found == expected
    assert opened(pages).model.type == 'FasterRCNN'


def test_image_sets_of_voc_are_the_split(make, scenes, root):
    truth = voc_folder(root, scenes)
    stems = [image['file_name'].removesuffix('.jpg') for image in truth['images']]
    (root / 'ImageSets/Main').mkdir(parents=True)
    for part, names in (('train', stems[:6]), ('val', stems[6:])):
        (root / f'ImageSets/Main/{part}.txt').write_text('\n'.join(names) + '\n')
    make()
    found = [[image['file_name'][11:-4] for image in content['images']] for content in written(root)]
    assert found == [stems[:6], stems[6:]]


def test_difficult_objects_of_voc_are_crowds(make, scenes, root):
    voc_folder(root, scenes, difficult=True)
    make()
    assert {e['iscrowd'] for content in written(root) for e in content['annotations']} == {1}


# Ground and sky are 1 and 2 in the scenes; 0 has no class there.
ODD_VALUES = [255, 40, 7, *range(100, 106), *range(200, 247)]


@pytest.mark.parametrize('split', [True, False], ids=['split', 'no split'])
def test_maps_have_the_classes_in_the_order_of_their_values(make, scenes, root, pages, split):
    mask_folder(root, scenes, ODD_VALUES, split)
    (root / 'classes.txt').write_text(
        ''.join(f'{"ground" if value == 40 else f"name {value}"}\n' for value in range(120))
    )
    text = make()
    cfg = opened(pages)
    values = sorted({int(v) for mask in root.glob('masks/**/*.png') for v in np.unique(pixels(mask))})
    values.remove(255)
    classes = [*cfg.train_dataloader.dataset.metainfo.classes]
    assert classes == ['ground' if value == 40 else f'name {value}' for value in values]
    lists = [
        (root / f'dense_mixer_bench/fruit/{part}.txt').read_text().splitlines()
        for part in ('train', 'val')
    ]
    assert sorted(map(len, lists)) == [3, 10]
    if split:
        assert 'as the files state' in text
        assert all(name.startswith('training/') for name in lists[0])
    for name in (name for names in lists for name in names):
        given = pixels(root / 'masks' / name.replace('.jpg', '.png'))
        expected = np.full_like(given, 255)
        for label, value in enumerate(values):
            expected[given == value] = label
        assert (pixels(root / f'dense_mixer_bench/fruit/maps/{name}.png') == expected).all()


def pixels(file):
    return np.asarray(Image.open(file))


def test_palettes_and_single_bits_are_read_as_indices(make, scenes, root):
    mask_folder(root, scenes)
    for index, file in enumerate(sorted((root / 'masks').iterdir())):
        binary = pixels(file) > 1
        picture = Image.fromarray(binary.astype(np.uint8), 'P')
        picture.putpalette([0, 0, 0, 255, 0, 0])
        (Image.fromarray(binary) if index % 2 else picture).save(file)
        file.rename(file.with_name(f'{file.stem}_mask.png'))
    make()
    for name in (root / 'dense_mixer_bench/fruit/train.txt').read_text().splitlines():
        given = pixels(root / 'masks' / name.replace('.jpg', '_mask.png'))
        assert (pixels(root / f'dense_mixer_bench/fruit/maps/{name}.png') == given).all()


def test_black_and_white_masks_have_two_classes(make, scenes, root, pages):
    mask_folder(root, scenes, [0, 0, 0, *[255] * 253])
    assert 'Values of the classes in the masks: 0, 255.' in make()
    assert [*opened(pages).train_dataloader.dataset.metainfo.classes] == ['background', 'object']
    for name in (root / 'dense_mixer_bench/fruit/val.txt').read_text().splitlines():
        given = pixels(root / 'masks' / name.replace('.jpg', '.png'))
        assert (pixels(root / f'dense_mixer_bench/fruit/maps/{name}.png') == given // 255).all()


def test_test_images_need_no_masks(make, scenes, root):
    mask_folder(root, scenes, split=True)
    (root / 'images/test').mkdir()
    shutil.copy(next((root / 'images/training').iterdir()), root / 'images/test/unknown.jpg')
    assert '10 training and 3 validation images' in make()


def test_objects_can_be_in_a_folder_with_the_name_of_masks(make, scenes, root):
    coco_folder(root, scenes)
    (root / 'photos').rename(root / 'mask')
    make(kind='coco')
    assert {i['file_name'][:5] for content in written(root) for i in content['images']} == {'mask/'}


def test_ignored_values_have_no_class(make, scenes, root, pages):
    mask_folder(root, scenes)
    make(ignored=[0, 255])
    classes = opened(pages).train_dataloader.dataset.metainfo.classes
    assert 'value 0' not in classes
    assert 'value 1' in classes


def test_only_files_of_the_command_are_replaced(make, scenes, root, pages):
    coco_folder(root, scenes)
    make()
    assert 'dense_mixer_bench/fruit exists;' in refused_message(make, pages / 'fruit.py')
    make(force=True, seed=1)
    first = written(root)
    make(force=True, seed=1)
    assert written(root) == first
    make(name='second')
    assert written(root, 'second') != first
    for name in ('runtime', 'mask_rcnn_coco_1x'):
        text = (pages / f'{name}.py').read_text()
        assert 'was not written for a data set' in refusal(partial(make, name=name, force=True))
        assert (pages / f'{name}.py').read_text() == text


def refused_message(make, page):
    """Return the message for data that exist without their page."""
    page.unlink()
    return refusal(make)


def test_leaf_can_import_the_page(make, scenes, root, pages):
    coco_folder(root, scenes)
    make()
    leaf = pages / 'leaf_of_fruit.py'
    leaf.write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n'
        '    from .backbones.swin import swin_micro as backbone\n'
        '    from .fruit import *\n'
        "contestant = dict(name='swin_micro', scale='micro')\n"
        'model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))\n'
        'del backbone\n'
    )
    cfg = open_config(str(leaf), None, {})[0]
    check_config(cfg, LOADERS, 1)
    assert cfg.recipe.name == 'fruit'
    assert cfg.model == opened(pages).model


def test_doubts_are_printed_and_do_not_stop(make, scenes, root):
    coco_folder(root, scenes)
    edit_json(root / 'export.json', lambda c: c['annotations'][0].update(area=60_000))
    text = make()
    assert '1  wrong areas' in text
    assert (root / 'dense_mixer_bench/fruit/train.json').is_file()


def test_names_of_folders_become_names_of_pages(tmp_path):
    names = {'My Fruit-2': 'my_fruit_2', 'Äpfel': 'apfel', '日本': ''}
    assert {name: name_of_folder(tmp_path / name) for name in names} == names


# Bad input: nothing is written.


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


BAD_VOC = {
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
def test_bad_data_are_refused_and_nothing_is_written(make, scenes, root, pages, kind, given):
    (coco_folder, mask_folder, voc_folder)[kind](root, scenes)
    damage, message = (BAD_COCO, BAD_MASKS, BAD_VOC)[kind][given]
    damage(root)
    before = {*root.rglob('*'), *pages.rglob('*')}
    assert message in refusal(make)
    assert {*root.rglob('*'), *pages.rglob('*')} == before


@pytest.mark.parametrize(
    ('count', 'message'), [(1, 'has 1 images, 1 with annotations; give at least two')]
)
def test_one_image_is_too_few(make, scenes, root, count, message):
    coco_folder(root, scenes, count=count)
    assert message in refusal(make)


@pytest.mark.parametrize('name', ['', 'Fruit', '2fruit', 'my fruit', 'class', '../fruit', 'früchte'])
def test_names_that_pages_cannot_have_are_refused(make, scenes, root, name):
    coco_folder(root, scenes, count=3)
    assert 'cannot be the name of a recipe page' in refusal(lambda: make(name=name))


def test_objects_in_xml_are_read_only_below_their_own_element(make, scenes, root):
    voc_folder(root, scenes)
    file = min((root / 'Annotations').iterdir())
    part = xml_object('wheel', [1, 1, 5, 5]).replace('object>', 'part>')
    file.write_text(file.read_text().replace('</object>', f'{part}</object>', 1))
    make()
    assert all('wheel' not in {c['name'] for c in content['categories']} for content in written(root))
