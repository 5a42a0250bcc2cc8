"""Warping of images, label maps and objects: inverses, right angles, analytic boxes."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from evaluation.analysis.detectors import Objects, rectangle
from evaluation.analysis.invariance.conditions import (
    DIRECTIONS,
    ROTATION,
    SCALE,
    STRENGTHS,
    TRANSLATION,
    Condition,
    choose_conditions,
    rotation,
    translation,
    zoom,
)
from evaluation.analysis.invariance.warping import (
    cut_off,
    warp_image,
    warp_labels,
    warp_objects,
)
from evaluation.utils.errors import UserError

FILL = (1, 2, 3)
SIDES = st.integers(8, 40)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 250, shape, np.uint8)


def objects_of(size, *outlines):
    """Return objects of class 0 whose boxes bound their polygons or run-length codes."""
    boxes = []
    for outline in outlines:
        if isinstance(outline, dict):
            left, top, width, height = coco_mask.toBbox(outline)
            boxes.append([left, top, left + width, top + height])
        else:
            corners = np.concatenate(outline)
            boxes.append([*corners.min(0), *corners.max(0)])
    count = len(outlines)
    boxes = np.array(boxes, float).reshape(-1, 4)
    return Objects(size, np.zeros(count, int), boxes, np.zeros(count, bool), outlines)


def code(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


class TestConditions:
    def test_defaults_are_those_of_the_paper(self):
        conditions = choose_conditions(None, None, None, None)
        assert len(conditions) == len({*map(str, conditions)}) == 16 * 8 + 1 + 19 + 15
        assert STRENGTHS[TRANSLATION][-1] == 64
        assert STRENGTHS[ROTATION][-1] == 90
        assert STRENGTHS[SCALE][:2] == (0.2, 0.325)
        assert STRENGTHS[SCALE][-1] == 1.95

    def test_subset(self):
        assert [str(c) for c in choose_conditions(['rotation'], None, 3, None)] == [
            'rotation 0', 'rotation 45', 'rotation 90',
        ]  # fmt: skip
        few = choose_conditions(['translation'], [8, 0, 8], None, ['left', 'up-right'])
        assert [str(c) for c in few] == [
            'translation 0', 'translation 8 left', 'translation 8 up-right',
        ]  # fmt: skip
        assert [c.strength for c in choose_conditions(['scale'], None, 1, None)] == [1.95]

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            ((['shear'], None, None, None), "--transforms: unknown 'shear'; choose from transl"),
            ((None, None, None, ['nort']), "--directions: unknown 'nort'"),
            ((None, [4.0], None, None), 'several --transforms cannot be combined'),
            ((['scale'], [1.0], 2, None), '--strengths and --steps cannot be combined'),
            ((['scale'], [0.0], None, None), 'give crop ratios from 0.05 to 20 for scale'),
            ((['translation'], [1.5], None, None), 'give an integer number of pixels'),
        ],
    )
    def test_invalid_options(self, arguments, message):
        with pytest.raises(UserError, match=message):
            choose_conditions(*arguments)


class TestImages:
    @given(st.sampled_from([*DIRECTIONS]), st.integers(1, 30), SIDES, SIDES)
    def test_there_and_back(self, direction, pixels, height, width):
        """Pixels that stayed in view are unchanged, and all others have the fill color."""
        image = noise(height, width, 3)
        right, down = DIRECTIONS[direction]
        opposite = next(n for n, d in DIRECTIONS.items() if d == (-right, -down))
        back = image
        for each in (direction, opposite):
            back = warp_image(back, Condition(TRANSLATION, pixels, each), FILL)
        rows = np.s_[max(0, -down * pixels) : max(0, height - max(0, down * pixels))]
        columns = np.s_[max(0, -right * pixels) : max(0, width - max(0, right * pixels))]
        expected = np.full_like(image, FILL)
        expected[rows, columns] = image[rows, columns]
        np.testing.assert_array_equal(back, expected)

    def test_four_right_angles(self):
        image = noise(32, 32, 3)
        turned = warp_image(image, Condition(ROTATION, 90), FILL)
        np.testing.assert_array_equal(turned, np.rot90(image))
        for _ in range(3):
            turned = warp_image(turned, Condition(ROTATION, 90), FILL)
        np.testing.assert_array_equal(turned, image)

    @pytest.mark.parametrize(
        'condition', [Condition(TRANSLATION, 0), Condition(ROTATION, 0), Condition(SCALE, 1)]
    )
    def test_identity(self, condition):
        image = noise(33, 46, 3)
        np.testing.assert_array_equal(warp_image(image, condition, FILL), image)

    @pytest.mark.parametrize('crop_ratio', [0.25, 0.5, 2.0, 1.6])
    def test_scale_agrees_with_the_affine_map(self, crop_ratio):
        """A bright rectangle is at its mapped corners."""
        image = np.zeros((80, 80, 3), np.uint8)
        image[36:44, 36:46] = 200
        affine = zoom(crop_ratio, (80, 80))
        left, top, right, bottom = (
            np.round(affine.points(np.array([[36, 36], [46, 44]]))).astype(int).flat
        )
        scaled = warp_image(image, Condition(SCALE, crop_ratio), (0, 0, 0))[..., 0] > 100
        expected = np.zeros((80, 80), bool)
        expected[top:bottom, left:right] = True
        assert (scaled != expected).mean() < 0.01

    def test_shrunk_images_are_padded(self):
        image = noise(40, 60, 3)
        smaller = warp_image(image, Condition(SCALE, 2.0), FILL)
        inside = np.zeros((40, 60), bool)
        inside[10:30, 15:45] = True
        assert (smaller[~inside] == FILL).all()


class TestLabels:
    def test_follow_the_image(self):
        labels = noise(32, 32)
        turned = warp_labels(labels, rotation(90, (32, 32)))
        np.testing.assert_array_equal(turned, np.rot90(labels))
        moved = warp_labels(labels, translation(3, -2))
        np.testing.assert_array_equal(moved[:-2, 3:], labels[2:, :-3])
        assert (moved[-2:] == 255).all()
        assert (moved[:, :3] == 255).all()


class TestObjects:
    # COCO's rasterization cuts this sharp corner by more than a pixel.
    @example(123.0, 9.375, 4.0)
    @given(st.floats(0, 360), st.floats(1, 12), st.floats(1, 12))
    def test_boxes_of_rotated_rectangles(self, degrees, half_width, half_height):
        """The bounds extend from the center by the rectangle's half sides, projected on the axes."""
        middle = np.array([40.0, 40.0])
        corners = rectangle(np.array([-half_width, -half_height, half_width, half_height])) + middle
        found = warp_objects(objects_of((80, 80), [corners]), rotation(degrees, (80, 80)))
        sine, cosine = abs(np.sin(np.radians(degrees))), abs(np.cos(np.radians(degrees)))
        reach = np.array(
            [half_width * cosine + half_height * sine, half_width * sine + half_height * cosine]
        )
        np.testing.assert_allclose(found.boxes[0], [*(middle - reach), *(middle + reach)], atol=1e-6)

    def test_boxes_that_stay_axis_aligned_are_mapped_directly(self):
        """This holds even if a box does not bound its outline tightly."""
        objects = objects_of((40, 40), [rectangle(np.array([10.0, 12, 20, 18]))])
        objects.boxes[0] = [9.5, 11, 21, 19]
        moved = warp_objects(objects, translation(4, -3))
        np.testing.assert_array_equal(moved.boxes, [[13.5, 8, 25, 16]])
        turned = warp_objects(objects, rotation(90, (40, 40)))
        np.testing.assert_allclose(turned.boxes, [[11, 19, 19, 30.5]])

    def test_objects_that_leave_the_view(self):
        """Objects are clipped, become a crowd if little is left, and are dropped if nothing is left."""
        box = rectangle(np.array([30.0, 10, 38, 20]))
        objects = objects_of((40, 40), [box])
        half = warp_objects(objects, translation(6, 0))
        np.testing.assert_allclose(half.boxes, [[36, 10, 40, 20]])
        assert not half.crowd.any()
        assert coco_mask.area(half.codes()[0]) == 40
        little = warp_objects(objects, translation(9, 0))
        assert little.crowd.tolist() == [True]
        assert not len(warp_objects(objects, translation(10, 0)).labels)

    def test_polygons_partly_out_of_view(self):
        """A polygon that is partly outside has the same mask as in a larger image."""
        angles = np.linspace(0, 2 * np.pi, 9)[:-1]
        star = 20 + np.stack([np.cos(angles), np.sin(angles)], 1) * np.array([[14], [5]] * 4)
        objects = objects_of((40, 40), [star])
        affine = translation(-13, 11)
        small = coco_mask.decode(warp_objects(objects, affine).codes()[0])
        large = coco_mask.decode(
            warp_objects(objects_of((120, 120), [star]), translation(27, 51)).codes()[0]
        )
        np.testing.assert_array_equal(small, large[40:80, 40:80])

    def test_masks_without_polygons_follow_the_image(self):
        mask = np.zeros((32, 32), bool)
        mask[4:9, 6:20] = True
        turned = warp_objects(objects_of((32, 32), code(mask)), rotation(90, (32, 32)))
        np.testing.assert_array_equal(coco_mask.decode(turned.codes()[0]), np.rot90(mask))
        np.testing.assert_allclose(turned.boxes, [[4, 12, 9, 26]])

    def test_polygon_that_bends_around_a_corner_of_the_image(self):
        """The box bounds the visible part and excludes the corner."""
        corner = np.array(
            [[-9.0, 30], [-9, -9], [30, -9], [30, 3], [20, 3], [20, -5], [-5, -5], [-5, 30]]
        )
        found = warp_objects(objects_of((40, 40), [corner + 10]), translation(-10, -10))
        np.testing.assert_allclose(found.boxes, [[20, 0, 30, 3]], atol=1.01)

    @given(st.lists(st.tuples(st.floats(-30, 70), st.floats(-30, 70)), min_size=3, max_size=8))
    def test_clipped_polygons_are_inside(self, points):
        kept = cut_off(np.array(points), (30, 40))
        assert (kept >= -1e-9).all()
        assert (kept <= np.array([40, 30]) + 1e-9).all()
