"""Data sets of scenes against OpenCV, pycocotools, Pillow and the readers themselves."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from evaluation.scenes.scene_datasets import (
    category_id,
    coco_segmentation,
    outline_polygons,
    write_ade20k,
    write_coco,
    write_datasets,
    write_imagenet,
)
from evaluation.scenes.scenes import (
    FIRST_SHAPE,
    OBJECT_CLASSES,
    PALETTE,
    SEGMENT_CLASSES,
    UNLABELED,
    SceneStyle,
    render_scene,
    scene_seed,
)
from evaluation.utils.errors import UserError
from tests.evaluation.scenes.test_scenes import SEED, SINGLE, SPLITS, STYLE, seeds


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('scenes')
    write_datasets(folder, STYLE, SPLITS, SEED)
    return folder


@pytest.fixture(scope='module')
def scenes() -> dict:
    return {
        split: [render_scene(STYLE, scene_seed(SEED, split, i)) for i in range(count)]
        for split, count in SPLITS.items()
    }


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def times_under(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob('*')]}


@given(seeds, st.floats(0.4, 5), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_coco_segmentation_is_exact(seed, smoothness, height, width):
    noise = np.random.default_rng(seed).normal(size=(height, width))
    mask = cv2.GaussianBlur(noise, (0, 0), smoothness) > 0
    mask[height // 2, width // 2] = True
    for is_crowd in (False, True):
        segmentation = coco_segmentation(mask, is_crowd)
        coded = segmentation
        if isinstance(segmentation, list):
            coded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation['counts'], list):
            coded = coco_mask.frPyObjects(segmentation, height, width)
        np.testing.assert_array_equal(coco_mask.decode(coded).astype(bool), mask)


def test_outline_of_a_known_shape():
    mask = np.zeros((6, 8), bool)
    mask[1:3, 2:7] = True
    mask[3:5, 2:4] = True
    (polygon,) = outline_polygons(mask)
    corners = {tuple(corner) for corner in np.reshape(polygon, (-1, 2))}
    assert corners == {(2, 1), (7, 1), (7, 3), (4, 3), (4, 5), (2, 5)}
    assert len(polygon) == 12
    mask[0:6, 1:8] = True
    mask[2, 4] = False
    assert outline_polygons(mask) is None


# Files


@pytest.mark.parametrize('split', SPLITS)
def test_coco_annotations_are_the_rendered_truth(root, scenes, split, capsys):
    coco = COCO(root / 'coco' / 'annotations' / f'instances_{split}2017.json')
    assert coco.getImgIds() == list(range(1, SPLITS[split] + 1))
    for image_id, scene in zip(coco.getImgIds(), scenes[split], strict=True):
        annotations = coco.loadAnns(coco.getAnnIds([image_id]))
        expected = [i for i in scene.instances if np.count_nonzero(i.mask) >= STYLE.area_min]
        assert len(annotations) == len(expected)
        for annotation, instance in zip(annotations, expected, strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation), instance.mask)
            encoded = coco_mask.encode(np.asfortranarray(instance.mask.astype(np.uint8)))
            assert annotation['bbox'] == coco_mask.toBbox(encoded).tolist()
            assert annotation['area'] == coco_mask.area(encoded)
            assert annotation['iscrowd'] == instance.is_crowd
            (category,) = coco.loadCats(annotation['category_id'])
            assert category['name'] == STYLE.classes[instance.label]
    capsys.readouterr()


def test_coco_document_has_the_official_fields(root):
    document = json.loads((root / 'coco/annotations/instances_train2017.json').read_text())
    assert set(document) == {'info', 'licenses', 'images', 'annotations', 'categories'}
    assert [category['name'] for category in document['categories']] == list(OBJECT_CLASSES)
    ids = [category['id'] for category in document['categories']]
    assert ids == sorted(ids)
    assert ids[0] == 1
    assert ids[-1] > len(ids)
    annotation_ids = [annotation['id'] for annotation in document['annotations']]
    assert len(set(annotation_ids)) == len(annotation_ids)
    kinds = {
        (a['iscrowd'], type(a['segmentation']), type(dict(a['segmentation']).get('counts')))
        if isinstance(a['segmentation'], dict)
        else (a['iscrowd'], list, None)
        for a in document['annotations']
    }
    # Polygons, compressed codes for masks with holes, uncompressed codes for crowds.
    assert kinds == {(0, list, None), (0, dict, str), (1, dict, list)}
    annotated = {annotation['image_id'] for annotation in document['annotations']}
    assert 0 < len(annotated) < SPLITS['train']


def test_ade20k_maps_are_the_rendered_truth(root, scenes):
    for split, folder in (('train', 'training'), ('val', 'validation')):
        paths = sorted((root / 'ADEChallengeData2016/annotations' / folder).iterdir())
        assert len(paths) == SPLITS[split]
        for path, scene in zip(paths, scenes[split], strict=True):
            with Image.open(path) as picture:
                assert picture.mode == 'L'
                np.testing.assert_array_equal(np.array(picture), scene.segmentation)


def test_layouts_and_pictures(root, scenes):
    coco, ade = (files_under(root / name) for name in ('coco', 'ADEChallengeData2016'))
    numbers = {split: range(1, count + 1) for split, count in SPLITS.items()}
    assert set(coco) == {
        'scenes.json',
        *(f'annotations/instances_{split}2017.json' for split in SPLITS),
        *(f'{split}2017/{n:012d}.jpg' for split in SPLITS for n in numbers[split]),
    }
    pairs = [('train', 'training'), ('val', 'validation')]
    assert set(ade) == {
        'scenes.json',
        *(f'images/{f}/ADE_{s}_{n:08d}.jpg' for s, f in pairs for n in numbers[s]),
        *(f'annotations/{f}/ADE_{s}_{n:08d}.png' for s, f in pairs for n in numbers[s]),
    }
    pictures = set()
    for split, folder in pairs:
        for number, scene in zip(numbers[split], scenes[split], strict=True):
            written = coco[f'{split}2017/{number:012d}.jpg']
            assert written == ade[f'images/{folder}/ADE_{split}_{number:08d}.jpg']
            pictures.add(written)
            path = root / 'coco' / f'{split}2017' / f'{number:012d}.jpg'
            with Image.open(path) as picture:
                difference = np.array(picture).astype(float) - scene.image
            assert np.abs(difference).mean() < 8
    assert len(pictures) == sum(SPLITS.values())


def test_same_settings_give_the_same_bytes(root, tmp_path):
    write_datasets(tmp_path / 'again', STYLE, SPLITS, SEED)
    assert files_under(tmp_path / 'again') == files_under(root)
    write_ade20k(tmp_path / 'other', STYLE, SPLITS, SEED + 1)
    first = 'images/training/ADE_train_00000001.jpg'
    assert (tmp_path / 'other' / first).read_bytes() != (
        root / 'ADEChallengeData2016' / first
    ).read_bytes()


def test_longer_split_begins_with_the_shorter(root, tmp_path):
    write_coco(tmp_path / 'short', STYLE, {'train': 3}, SEED)
    short = files_under(tmp_path / 'short' / 'train2017')
    long = files_under(root / 'coco' / 'train2017')
    assert len(short) == 3
    assert short.items() <= long.items()


def test_hidden_objects_are_not_annotated_but_labeled(tmp_path):
    style = SceneStyle(area_min=700, empty_probability=0)
    write_coco(tmp_path / 'coco', style, {'val': 6}, 0)
    document = json.loads((tmp_path / 'coco/annotations/instances_val2017.json').read_text())
    scenes = [render_scene(style, scene_seed(0, 'val', i)) for i in range(6)]
    areas = [np.count_nonzero(i.mask) for scene in scenes for i in scene.instances]
    assert [a['area'] for a in document['annotations']] == [a for a in areas if a >= 700]
    assert len(document['annotations']) < len(areas)
    labeled = sum(np.count_nonzero(scene.segmentation >= FIRST_SHAPE) for scene in scenes)
    assert labeled == sum(areas)


def test_classes_keep_their_category_ids_in_a_smaller_style(tmp_path):
    style = SceneStyle(classes=('cross', 'disc'), empty_probability=0)
    write_coco(tmp_path / 'coco', style, {'train': 6}, 0)
    document = json.loads((tmp_path / 'coco/annotations/instances_train2017.json').read_text())
    found = [(c['id'], c['name']) for c in document['categories']]
    assert found == [(category_id('cross'), 'cross'), (category_id('disc'), 'disc')]
    scenes = [render_scene(style, scene_seed(0, 'train', i)) for i in range(6)]
    drawn = [style.classes[i.label] for scene in scenes for i in scene.instances]
    names = dict(found)
    assert [names[a['category_id']] for a in document['annotations']] == drawn
    assert set(drawn) == {'cross', 'disc'}


# Finished data, replaced data, foreign data


def test_finished_data_are_kept_unless_the_settings_change(tmp_path):
    calls = []
    write = {
        'first': lambda: write_datasets(tmp_path, STYLE, {'train': 2}, 0, lambda *c: calls.append(c)),
        'more': lambda: write_datasets(tmp_path, STYLE, {'train': 3}, 0),
        'seed': lambda: write_datasets(tmp_path, STYLE, {'train': 3}, 1),
        'style': lambda: write_datasets(tmp_path, SceneStyle(), {'train': 3}, 1),
    }
    write['first']()
    assert calls == [(1, 2), (2, 2)] * 2
    before = times_under(tmp_path)
    write['first']()
    assert times_under(tmp_path) == before
    assert len(calls) == 4
    picture = tmp_path / 'coco/train2017/000000000001.jpg'
    seen = [picture.read_bytes()]
    write['more']()
    assert (tmp_path / 'coco/train2017/000000000003.jpg').exists()
    assert picture.read_bytes() == seen[0]
    for change in ('seed', 'style'):
        write[change]()
        assert picture.read_bytes() not in seen
        seen.append(picture.read_bytes())
    assert {path.name for path in tmp_path.iterdir()} == {'coco', 'ADEChallengeData2016'}


def test_replacing_leaves_no_file_of_the_old_data(tmp_path):
    write_coco(tmp_path / 'coco', STYLE, {'train': 3, 'val': 1}, 0)
    write_coco(tmp_path / 'coco', STYLE, {'train': 1}, 0)
    assert set(files_under(tmp_path / 'coco')) == {
        'scenes.json',
        'annotations/instances_train2017.json',
        'train2017/000000000001.jpg',
    }


@pytest.mark.parametrize('write', [write_coco, write_ade20k, write_imagenet])
def test_interrupted_writing_keeps_the_old_data(tmp_path, write):
    style = SINGLE if write is write_imagenet else STYLE
    write(tmp_path / 'data', style, {'train': 1}, 0)
    before = files_under(tmp_path)

    def break_off(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for folder in ('data', 'new'):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / folder, style, {'train': 2}, 0, break_off)
    assert files_under(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ['data']


def test_data_not_written_here_is_refused(tmp_path):
    own = tmp_path / 'coco' / 'annotations' / 'instances_train2017.json'
    own.parent.mkdir(parents=True)
    own.write_text('real COCO')
    with pytest.raises(UserError, match='has no generated scenes'):
        write_datasets(tmp_path, STYLE, {'train': 1}, 0)
    assert files_under(tmp_path) == {'coco/annotations/instances_train2017.json': b'real COCO'}


def test_an_empty_folder_is_used(tmp_path):
    write_coco(tmp_path, STYLE, {'train': 1}, 0)
    assert (tmp_path / 'train2017' / '000000000001.jpg').is_file()


@pytest.mark.parametrize(
    ('splits', 'seed'), [({}, 0), ({'test': 3}, 0), ({'train': 0}, 0), ({'train': 1}, -1)]
)
def test_invalid_arguments_are_refused(tmp_path, splits, seed):
    with pytest.raises(UserError, match='scenes'):
        write_coco(tmp_path / 'coco', STYLE, splits, seed)
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_imagenet_are_in_the_folder_of_their_class(tmp_path):
    write_imagenet(tmp_path / 'data', SINGLE, {'train': 30, 'val': 5}, SEED)
    for split, count in (('train', 30), ('val', 5)):
        scenes = [render_scene(SINGLE, scene_seed(SEED, split, n)) for n in range(count)]
        expected = {
            f'{OBJECT_CLASSES[scene.instances[0].label]}/{number:08d}.jpg'
            for number, scene in enumerate(scenes, 1)
        }
        assert set(files_under(tmp_path / 'data' / split)) == expected


@pytest.mark.parametrize('change', [{'objects_max': 2}, {'empty_probability': 0.1}])
def test_imagenet_refuses_scenes_without_exactly_one_object(tmp_path, change):
    with pytest.raises(UserError, match='exactly one object'):
        write_imagenet(tmp_path / 'data', replace(SINGLE, **change), {'train': 1}, 0)
    assert list(tmp_path.iterdir()) == []


# The readers of mmdet and mmseg, unchanged


@pytest.fixture
def mmcv_operators() -> None:
    from backbones import mmcv_ops

    mmcv_ops.install()


@pytest.mark.usefixtures('mmcv_operators')
def test_mmdet_reads_coco(root, scenes, capsys):
    from mmcv.transforms import LoadImageFromFile
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadAnnotations

    dataset = CocoDataset(
        ann_file='annotations/instances_train2017.json',
        data_root=str(root / 'coco'),
        data_prefix={'img': 'train2017/'},
        metainfo={'classes': OBJECT_CLASSES, 'palette': PALETTE[2:]},
        pipeline=[LoadImageFromFile(), LoadAnnotations(with_bbox=True, with_mask=True)],
    )
    assert len(dataset) == SPLITS['train']
    for item, scene in zip(dataset, scenes['train'], strict=True):
        assert item['img'].shape == scene.image.shape
        assert item['gt_bboxes_labels'].tolist() == [i.label for i in scene.instances]
        assert item['gt_ignore_flags'].tolist() == [i.is_crowd for i in scene.instances]
        assert len(item['gt_masks']) == len(scene.instances)
        for read, instance in zip(item['gt_masks'].masks, scene.instances, strict=True):
            np.testing.assert_array_equal(read, instance.mask)
    capsys.readouterr()


@pytest.mark.usefixtures('mmcv_operators')
def test_mmdet_filters_empty_images(root, scenes, capsys):
    from mmdet.datasets import CocoDataset

    dataset = CocoDataset(
        ann_file='annotations/instances_train2017.json',
        data_root=str(root / 'coco'),
        data_prefix={'img': 'train2017/'},
        metainfo={'classes': OBJECT_CLASSES},
        filter_cfg={'filter_empty_gt': True},
    )
    assert len(dataset) == sum(bool(scene.instances) for scene in scenes['train'])
    capsys.readouterr()


@pytest.mark.usefixtures('mmcv_operators')
def test_mmseg_reads_ade20k(root, scenes):
    from mmcv.transforms import LoadImageFromFile
    from mmseg.datasets import BaseSegDataset
    from mmseg.datasets.transforms import LoadAnnotations

    dataset = BaseSegDataset(
        data_root=str(root / 'ADEChallengeData2016'),
        data_prefix={'img_path': 'images/validation', 'seg_map_path': 'annotations/validation'},
        metainfo={'classes': SEGMENT_CLASSES, 'palette': PALETTE},
        reduce_zero_label=True,
        pipeline=[LoadImageFromFile(), LoadAnnotations()],
    )
    assert len(dataset) == SPLITS['val']
    for item, scene in zip(dataset, scenes['val'], strict=True):
        assert item['img'].shape == scene.image.shape
        expected = np.where(scene.segmentation == UNLABELED, 255, scene.segmentation - 1)
        np.testing.assert_array_equal(item['gt_seg_map'], expected)
