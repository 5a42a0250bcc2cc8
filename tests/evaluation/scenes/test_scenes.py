"""Scenes against analytic areas."""

import colorsys
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.scenes.scene_shapes import SHAPES, Pose, polygon_distance, shape_cover
from evaluation.scenes.scenes import (
    FIRST_SHAPE,
    GROUND,
    OBJECT_CLASSES,
    PALETTE,
    SEGMENT_CLASSES,
    SKY,
    UNLABELED,
    SceneStyle,
    render_scene,
    scene_seed,
)
from evaluation.utils.errors import UserError

STYLE = SceneStyle(height=96, width=112, empty_probability=0.2, crowd_probability=0.3)
SINGLE = SceneStyle(objects_min=1, objects_max=1, empty_probability=0.0, crowd_probability=0.0)
SPLITS = {'train': 16, 'val': 6}
SEED = 5

seeds = st.integers(0, 2**64 - 1)


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
    # A center on the very outline may round to either side.
    clear = (abs(sharp - 0.5) > 1e-4) & (abs(soft - 0.5) > 1e-4)
    np.testing.assert_array_equal((sharp > 0.5)[clear], (soft > 0.5)[clear])


def test_every_class_has_a_shape_and_a_color():
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
    # No share is below visible_min; shares near it occur only if it allows them.
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
        assert set(np.unique(scene.segmentation)) == {UNLABELED, GROUND, SKY}
        instances = render_scene(crowded, seed).instances
        crowd = [instance for instance in instances if instance.is_crowd]
        assert len(crowd) == 1
        # A crowd has many shapes, while one object is connected.
        assert cv2.connectedComponents(crowd[0].mask.astype(np.uint8))[0] - 1 >= 5


def test_clutter_alone_is_unlabeled():
    cluttered = SceneStyle(clutter=30, empty_probability=1.0)
    assert not (render_scene(SceneStyle(clutter=0), 3).segmentation == UNLABELED).any()
    assert (render_scene(cluttered, 3).segmentation == UNLABELED).mean() > 0.01


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
