"""Recipes for data sets of users: what is found, written and checked."""

import json
import math
import shutil
from collections import Counter
from functools import partial

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import backbones  # noqa: F401  (before mmdet and mmseg, which need its operators)
from evaluation.config.contestants import open_config
from evaluation.config.masks import leave_out_unused_masks
from evaluation.config.whole_config import check_config
from evaluation.data.data_root import set_data_root
from evaluation.data.new_dataset import name_of_folder
from evaluation.data.startup_checks import check_data
from tests.own_data import (
    coco_folder,
    edit_json,
    instances,
    mask_folder,
    voc_folder,
    xml_object,
)
from tests.refusals import refusal

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


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
def test_objects_are_the_same_under_new_names(make, own_scenes, root, pages, variant):
    """Boxes, areas and masks are those of the scenes, which are exact."""
    given = coco_folder(root, own_scenes, **VARIANTS[variant])
    before = {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}
    make()
    contents = written(root)
    truth = {entry['id']: entry for entry in instances(own_scenes)['annotations']}
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


def test_masks_of_objects_stay_as_they_are(make, own_scenes, root):
    given = coco_folder(root, own_scenes, rle=True)
    make()
    kept = [entry['segmentation'] for content in written(root) for entry in content['annotations']]
    assert sorted(map(str, kept)) == sorted(str(e['segmentation']) for e in given['annotations'])


def test_area_of_polygons_is_that_of_their_pixels(make, own_scenes, root):
    given = coco_folder(root, own_scenes)
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


def test_given_split_is_kept(make, own_scenes, root, pages):
    """Roboflow's layout: a folder for each split, with images and `_annotations.coco.json`."""
    for split, own in (('train', 'train'), ('val', 'valid')):
        shutil.copytree(own_scenes / f'coco/{split}2017', root / own)
        content = json.dumps(instances(own_scenes, split))
        (root / own / '_annotations.coco.json').write_text(content)
    (root / 'test').mkdir()
    shutil.copy(root / 'valid/_annotations.coco.json', root / 'test')
    text = make()
    train, val = written(root)
    assert [image['file_name'] for image in val['images']] == [
        f'valid/{image["file_name"]}' for image in instances(own_scenes, 'val')['images']
    ]
    assert {image['file_name'][:6] for image in train['images']} == {'train/'}
    assert 'Split: 10 training and 3 validation images, as the files state.' in text
    opened(pages)


def test_objects_without_masks_get_a_detector_of_boxes(make, own_scenes, root, pages):
    coco_folder(root, own_scenes, without=('segmentation', 'area'))
    assert 'for Faster R-CNN on boxes' in make()
    for content in written(root):
        for entry in content['annotations']:
            assert entry['area'] == entry['bbox'][2] * entry['bbox'][3]
    cfg = opened(pages)
    assert (cfg.model.type, cfg.recipe.title) == ('FasterRCNN', 'Faster R-CNN')


def test_voc_boxes_are_those_of_the_scenes(make, own_scenes, root, pages):
    truth = voc_folder(root, own_scenes)
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


def test_image_sets_of_voc_are_the_split(make, own_scenes, root):
    truth = voc_folder(root, own_scenes)
    stems = [image['file_name'].removesuffix('.jpg') for image in truth['images']]
    (root / 'ImageSets/Main').mkdir(parents=True)
    for part, names in (('train', stems[:6]), ('val', stems[6:])):
        (root / f'ImageSets/Main/{part}.txt').write_text('\n'.join(names) + '\n')
    make()
    found = [[image['file_name'][11:-4] for image in content['images']] for content in written(root)]
    assert found == [stems[:6], stems[6:]]


def test_image_sets_name_test_images_and_names_with_spaces(make, own_scenes, root):
    """A byte order mark and blank lines are no part of a name."""
    truth = voc_folder(root, own_scenes)
    stems = [image['file_name'].removesuffix('.jpg') for image in truth['images']]
    for folder in (root / 'JPEGImages', root / 'Annotations'):
        for file in folder.glob(f'{stems[0]}.*'):
            if file.suffix == '.xml':
                file.write_text(file.read_text().replace(stems[0], 'my image'))
            file.rename(file.with_stem('my image'))
    stems[0] = 'my image'
    (root / 'ImageSets/Main').mkdir(parents=True)
    parts = {'train': stems[:4], 'val': stems[4:6], 'test': stems[6:]}
    for part, names in parts.items():
        text = '\ufeff' + '\n  \n'.join(names) + '\n'
        (root / f'ImageSets/Main/{part}.txt').write_text(text, 'utf-8')
    make()
    found = [{image['file_name'][11:-4] for image in content['images']} for content in written(root)]
    assert found == [{*stems[:4]}, {*stems[4:6]}]


def test_schedule_counts_the_images_that_training_uses(make, own_scenes, root, pages):
    """Training skips images without objects."""
    content = coco_folder(root, own_scenes)
    kept = {image['id'] for image in content['images'][:4]}

    def leave_four(content):
        content['annotations'] = [e for e in content['annotations'] if e['image_id'] in kept]

    edit_json(root / 'export.json', leave_four)
    make()
    train, _ = written(root)
    used = len({entry['image_id'] for entry in train['annotations']})
    assert 0 < used < len(train['images'])
    cfg = opened(pages)
    assert f'of {used} images' in (pages / 'fruit.py').read_text()
    warm_up = cfg.param_scheduler[0].end
    assert warm_up <= cfg.train_cfg.max_epochs * math.ceil(used / 16) / 10


def test_masks_that_are_not_used_may_be_malformed(make, own_scenes, root, pages):
    coco_folder(root, own_scenes)

    def cut(content):
        content['annotations'][0]['segmentation'] = [[1, 2, 3]]

    edit_json(root / 'export.json', cut)
    make(boxes=True)
    assert opened(pages).model.type == 'FasterRCNN'


def test_difficult_objects_of_voc_are_crowds(make, own_scenes, root):
    voc_folder(root, own_scenes, difficult=True)
    make()
    assert {e['iscrowd'] for content in written(root) for e in content['annotations']} == {1}


# Ground and sky are 1 and 2 in the scenes; 0 has no class there.
ODD_VALUES = [255, 40, 7, *range(100, 106), *range(200, 247)]


@pytest.mark.parametrize('split', [True, False], ids=['split', 'no split'])
def test_maps_have_the_classes_in_the_order_of_their_values(make, own_scenes, root, pages, split):
    mask_folder(root, own_scenes, ODD_VALUES, split)
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


def test_palettes_and_single_bits_are_read_as_indices(make, own_scenes, root):
    mask_folder(root, own_scenes)
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


def test_black_and_white_masks_have_two_classes(make, own_scenes, root, pages):
    mask_folder(root, own_scenes, [0, 0, 0, *[255] * 253])
    assert 'Values of the classes in the masks: 0, 255.' in make()
    assert [*opened(pages).train_dataloader.dataset.metainfo.classes] == ['background', 'object']
    for name in (root / 'dense_mixer_bench/fruit/val.txt').read_text().splitlines():
        given = pixels(root / 'masks' / name.replace('.jpg', '.png'))
        assert (pixels(root / f'dense_mixer_bench/fruit/maps/{name}.png') == given // 255).all()


def test_test_images_need_no_masks(make, own_scenes, root):
    mask_folder(root, own_scenes, split=True)
    (root / 'images/test').mkdir()
    shutil.copy(next((root / 'images/training').iterdir()), root / 'images/test/unknown.jpg')
    assert '10 training and 3 validation images' in make()


def test_objects_can_be_in_a_folder_with_the_name_of_masks(make, own_scenes, root):
    coco_folder(root, own_scenes)
    (root / 'photos').rename(root / 'mask')
    make(kind='coco')
    assert {i['file_name'][:5] for content in written(root) for i in content['images']} == {'mask/'}


def test_ignored_values_have_no_class(make, own_scenes, root, pages):
    mask_folder(root, own_scenes)
    make(ignored=[0, 255])
    classes = opened(pages).train_dataloader.dataset.metainfo.classes
    assert 'value 0' not in classes
    assert 'value 1' in classes


def test_only_files_of_the_command_are_replaced(make, own_scenes, root, pages):
    coco_folder(root, own_scenes)
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


def test_leaf_can_import_the_page(make, own_scenes, root, pages):
    coco_folder(root, own_scenes)
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


@pytest.mark.parametrize('write', [coco_folder, mask_folder])
def test_data_can_move(make, own_scenes, root, pages, write):
    write(root, own_scenes)
    make()
    root.rename(root.with_name('moved'))
    cfg = open_config(str(pages / 'fruit.py'), 'swin_micro', {})[0]
    assert not set_data_root(cfg, str(root.with_name('moved')))
    check_data(cfg, LOADERS)


def test_doubts_are_printed_and_do_not_stop(make, own_scenes, root):
    coco_folder(root, own_scenes)
    edit_json(root / 'export.json', lambda c: c['annotations'][0].update(area=60_000))
    text = make()
    assert '1  wrong areas' in text
    assert (root / 'dense_mixer_bench/fruit/train.json').is_file()


def test_names_of_folders_become_names_of_pages(tmp_path):
    names = {'My Fruit-2': 'my_fruit_2', 'Äpfel': 'apfel', '日本': ''}
    assert {name: name_of_folder(tmp_path / name) for name in names} == names


def test_objects_in_xml_are_read_only_below_their_own_element(make, own_scenes, root):
    voc_folder(root, own_scenes)
    file = min((root / 'Annotations').iterdir())
    part = xml_object('wheel', [1, 1, 5, 5]).replace('object>', 'part>')
    file.write_text(file.read_text().replace('</object>', f'{part}</object>', 1))
    make()
    assert all('wheel' not in {c['name'] for c in content['categories']} for content in written(root))
