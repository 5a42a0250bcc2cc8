"""Scenes against analytic areas, OpenCV, pycocotools, Pillow and the readers themselves."""

import colorsys
import json
import math
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

from evaluation.demo.scene_shapes import SHAPES, Pose, polygon_distance, shape_cover
from evaluation.demo.scenes import (
    FIRST_SHAPE,
    GROUND,
    OBJECT_CLASSES,
    PALETTE,
    SEGMENT_CLASSES,
    SKY,
    UNLABELLED,
    SceneStyle,
    category_id,
    coco_segmentation,
    outline_polygons,
    render_scene,
    scene_seed,
    write_ade20k,
    write_coco,
    write_datasets,
    write_imagenet,
)
from evaluation.utils.errors import UserError

STYLE = SceneStyle(height=96, width=112, empty_probability=0.2, crowd_probability=0.3)
SINGLE = SceneStyle(objects_min=1, objects_max=1, empty_probability=0.0, crowd_probability=0.0)
SPLITS = {'train': 16, 'val': 6}
SEED = 5

seeds = st.integers(0, 2**64 - 1)


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


# Shapes


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=20, max_size=40))
def test_polygon_distance_agrees_with_opencv(points):
    star = np.array([(0, -8), (2, -2), (8, -2), (3, 1), (5, 8), (0, 3), (-5, 8), (-3, 1)])
    x, y = np.array(points, float).T
    expected = [-cv2.pointPolygonTest(star.astype(np.float32), p, True) for p in zip(x, y, strict=True)]
    np.testing.assert_allclose(polygon_distance(x, y, star), expected, atol=1e-5)
    np.testing.assert_allclose(polygon_distance(x, y, star[::-1]), expected, atol=1e-5)


UNIT_AREAS = {
    'disc': math.pi,
    'square': 2,
    'triangle': 3 * math.sqrt(3) / 4,
    'star': 5 * 0.45 * math.sin(math.pi / 5),
    'ring': math.pi * (1 - 0.5**2),
    'cross': 8 * 0.34 * math.sqrt(1 - 0.34**2) - 4 * 0.34**2,
}


@pytest.mark.parametrize('shape', OBJECT_CLASSES)
@pytest.mark.parametrize('turn', [0.0, 17.0])
def test_shapes_cover_their_analytic_area(shape, turn):
    radius = 40.3
    cover = shape_cover(shape, Pose(50.4, 49.2, radius, turn), 100, 101)
    expected = UNIT_AREAS[shape] * radius**2
    assert cover.sum() == pytest.approx(expected, rel=0.01)
    assert np.count_nonzero(cover > 0.5) == pytest.approx(expected, rel=0.02)
    ys, xs = np.nonzero(cover)
    assert np.hypot(xs + 0.5 - 50.4, ys + 0.5 - 49.2).max() == pytest.approx(radius, abs=1.0)


def test_shapes_turn_clockwise_and_stand_upright():
    top_of = {}
    for turn in (0.0, 20.0):
        rows, columns = np.nonzero(shape_cover('triangle', Pose(32, 32, 25, turn), 64, 64) > 0.5)
        top_of[turn] = columns[rows.argmin()]
    assert abs(top_of[0.0] - 32) <= 1
    assert top_of[20.0] == pytest.approx(32 + 25 * math.sin(math.radians(20)), abs=2)


@given(
    st.sampled_from(OBJECT_CLASSES),
    st.floats(-10, 60),
    st.floats(-10, 60),
    st.floats(2, 30),
    st.floats(1, 12),
)
@settings(max_examples=50, deadline=None)
def test_softness_leaves_the_mask_alone(shape, x, y, radius, softness):
    pose = Pose(x, y, radius, 10)
    sharp, soft = (shape_cover(shape, pose, 48, 52, s) for s in (1.0, softness))
    # A centre on the very outline may round to either side.
    clear = (abs(sharp - 0.5) > 1e-4) & (abs(soft - 0.5) > 1e-4)
    np.testing.assert_array_equal((sharp > 0.5)[clear], (soft > 0.5)[clear])


def test_every_class_has_a_shape_and_a_colour():
    assert set(OBJECT_CLASSES) == set(SHAPES)
    assert SEGMENT_CLASSES[SKY - 1] == 'sky'
    assert SEGMENT_CLASSES[GROUND - 1] == 'ground'
    assert SEGMENT_CLASSES[FIRST_SHAPE - 1 :] == OBJECT_CLASSES
    assert len(set(PALETTE)) == len(PALETTE) == len(SEGMENT_CLASSES)


# Scenes


@given(seeds, st.integers(32, 96), st.integers(32, 96), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_segmentation_is_the_visible_masks(seed, height, width, visible_min):
    style = SceneStyle(height, width, visible_min=visible_min, crowd_probability=0.5)
    scene = render_scene(style, seed)
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == scene.segmentation.dtype == np.uint8
    expected = np.zeros((height, width), int)
    times_covered = np.zeros((height, width), int)
    for instance in scene.instances:
        times_covered += instance.mask
        expected[instance.mask] = FIRST_SHAPE + instance.label
    assert times_covered.max() <= 1
    is_shape = scene.segmentation >= FIRST_SHAPE
    np.testing.assert_array_equal(np.where(is_shape, scene.segmentation, 0), expected)
    assert {GROUND, SKY} <= set(np.unique(scene.segmentation))


def test_scene_depends_on_style_and_seed_alone():
    first, again, other = (render_scene(STYLE, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.segmentation, again.segmentation)
    assert (first.image != other.image).any()
    darker = render_scene(SceneStyle(noise=20.0), 1).image
    assert (render_scene(SceneStyle(), 1).image != darker).any()


@pytest.mark.parametrize('visible_min', [1.0, 0.4])
def test_objects_stay_visible(visible_min):
    style = SceneStyle(
        classes=('disc',),
        size_min=0.3,
        size_max=0.3,
        objects_min=6,
        objects_max=6,
        visible_min=visible_min,
        empty_probability=0.0,
        crowd_probability=0.0,
    )
    area = math.pi * (0.3 * 128 / 2) ** 2
    shares = []
    for seed in range(12):
        for instance in render_scene(style, seed).instances:
            edges = instance.mask[[0, -1]].any() or instance.mask[:, [0, -1]].any()
            if not edges:
                shares.append(np.count_nonzero(instance.mask) / area)
    # Smaller shares than visible_min come from nowhere; shares near it only if it allows them.
    assert min(shares) > visible_min - 0.02
    assert visible_min == 1.0 or min(shares) < 0.7


def median_hue_offset(image: np.ndarray, mask: np.ndarray, class_hue: float) -> float:
    hues = [360 * colorsys.rgb_to_hsv(*(pixel / 255))[0] for pixel in image[mask]]
    return float(np.median([(hue - class_hue + 180) % 360 - 180 for hue in hues]))


@pytest.mark.parametrize('spread', [5.0, 40.0])
def test_hue_of_a_class_spreads_as_documented(spread):
    style = SceneStyle(
        classes=('cross', 'star', 'disc'),
        hue_spread=spread,
        noise=0,
        objects_max=2,
        crowd_probability=0,
        empty_probability=0,
    )
    class_hues = {'disc': 0, 'star': 180, 'cross': 300}
    offsets = []
    for seed in range(25):
        scene = render_scene(style, seed)
        offsets += [
            median_hue_offset(scene.image, instance.mask, class_hues[style.classes[instance.label]])
            for instance in scene.instances
        ]
    assert 0.6 * spread < np.abs(offsets).max() < spread + 3


def test_empty_and_crowd_probabilities():
    empty = SceneStyle(empty_probability=1.0)
    crowded = SceneStyle(empty_probability=0.0, crowd_probability=1.0, objects_max=2)
    for seed in range(5):
        scene = render_scene(empty, seed)
        assert scene.instances == ()
        assert set(np.unique(scene.segmentation)) == {UNLABELLED, GROUND, SKY}
        instances = render_scene(crowded, seed).instances
        crowd = [instance for instance in instances if instance.is_crowd]
        assert len(crowd) == 1
        # Many shapes, and far from filling its box as one object would.
        assert cv2.connectedComponents(crowd[0].mask.astype(np.uint8))[0] - 1 >= 5


def test_clutter_alone_is_unlabelled():
    cluttered = SceneStyle(clutter=30, empty_probability=1.0)
    assert not (render_scene(SceneStyle(clutter=0), 3).segmentation == UNLABELLED).any()
    assert (render_scene(cluttered, 3).segmentation == UNLABELLED).mean() > 0.01


def test_seeds_differ_between_scenes_splits_and_data_sets():
    drawn = {
        scene_seed(seed, split, number)
        for seed in range(3)
        for split in ('train', 'val')
        for number in range(50)
    }
    assert len(drawn) == 300


@pytest.mark.parametrize(
    'bad',
    [
        {'height': 16},
        {'classes': ()},
        {'classes': ('disc', 'disc')},
        {'classes': ('person',)},
        {'objects_min': 3, 'objects_max': 2},
        {'size_min': 0.0},
        {'size_max': 1.5},
        {'noise': -1.0},
        {'crowd_probability': 1.1},
        {'visible_min': -0.1},
    ],
)
def test_style_refuses_bad_settings(bad):
    with pytest.raises(UserError, match='scene style'):
        SceneStyle(**bad)


# Masks as COCO writes them


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


def test_hidden_objects_are_not_annotated_but_labelled(tmp_path):
    style = SceneStyle(area_min=700, empty_probability=0)
    write_coco(tmp_path / 'coco', style, {'val': 6}, 0)
    document = json.loads((tmp_path / 'coco/annotations/instances_val2017.json').read_text())
    scenes = [render_scene(style, scene_seed(0, 'val', i)) for i in range(6)]
    areas = [np.count_nonzero(i.mask) for scene in scenes for i in scene.instances]
    assert [a['area'] for a in document['annotations']] == [a for a in areas if a >= 700]
    assert len(document['annotations']) < len(areas)
    labelled = sum(np.count_nonzero(scene.segmentation >= FIRST_SHAPE) for scene in scenes)
    assert labelled == sum(areas)


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


# Finished data, replaced data, other people's data


def test_second_call_touches_nothing_and_other_badrewrite(tmp_path):
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
def test_broken_off_writing_leaves_the_old_data(tmp_path, write):
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
    with pytest.raises(UserError, match='no generated scenes'):
        write_datasets(tmp_path, STYLE, {'train': 1}, 0)
    assert files_under(tmp_path) == {'coco/annotations/instances_train2017.json': b'real COCO'}


def test_an_empty_folder_is_taken(tmp_path):
    write_coco(tmp_path, STYLE, {'train': 1}, 0)
    assert (tmp_path / 'train2017' / '000000000001.jpg').is_file()


@pytest.mark.parametrize(
    ('splits', 'seed'), [({}, 0), ({'test': 3}, 0), ({'train': 0}, 0), ({'train': 1}, -1)]
)
def test_bad_requests_are_refused(tmp_path, splits, seed):
    with pytest.raises(UserError, match='scenes'):
        write_coco(tmp_path / 'coco', STYLE, splits, seed)
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_imagenet_lie_with_their_class(tmp_path):
    write_imagenet(tmp_path / 'data', SINGLE, {'train': 30, 'val': 5}, SEED)
    for split, count in (('train', 30), ('val', 5)):
        scenes = [render_scene(SINGLE, scene_seed(SEED, split, n)) for n in range(count)]
        expected = {
            f'{OBJECT_CLASSES[scene.instances[0].label]}/{number:08d}.jpg'
            for number, scene in enumerate(scenes, 1)
        }
        assert set(files_under(tmp_path / 'data' / split)) == expected


@pytest.mark.parametrize('change', [{'objects_max': 2}, {'empty_probability': 0.1}])
def test_scenes_without_one_class_are_refused(tmp_path, change):
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
        expected = np.where(scene.segmentation == UNLABELLED, 255, scene.segmentation - 1)
        np.testing.assert_array_equal(item['gt_seg_map'], expected)
