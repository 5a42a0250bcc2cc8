import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluation.benchmark.measuring import Measurement, Measurements
from evaluation.benchmark.passes import Size
from evaluation.benchmark.plot import MARKERS, draw_growth, growth_curves, spread_apart
from evaluation.benchmark.subjects import Cost
from evaluation.utils.formats import COLORS

COST = Cost(1, 1, ())


def growth(sizes, seconds_by_name):
    """Return measurements with one round; None means that memory ran out."""
    return [
        Measurements(
            size,
            [
                Measurement(
                    name,
                    COST,
                    [seconds[place]] if seconds[place] else [],
                    ran_out_of_memory=not seconds[place],
                )
                for name, seconds in seconds_by_name.items()
            ],
            matrix_side=1,
            matrix_seconds=[1.0],
        )
        for place, size in enumerate(sizes)
    ]


SQUARES = [Size(2, side, side) for side in (100, 200, 400)]


class TestCurves:
    def test_growing_images_give_times_per_megapixel(self):
        # Proportional to the number of pixels, 0.02, 0.08 and 0.32 million, and to its square.
        seconds = {'even': [0.1, 0.4, 1.6], 'steep': [0.1, 1.6, None], 'never': [None] * 3}
        curves, of_batch = growth_curves(growth(SQUARES, seconds))
        assert not of_batch
        even, steep = curves
        assert even.name == 'even'
        assert even.is_whole
        assert even.sizes == (100, 200, 400)
        assert [spread.median for spread in even.milliseconds] == pytest.approx([5000] * 3)
        assert not steep.is_whole
        assert steep.sizes == (100, 200)
        assert [spread.median for spread in steep.milliseconds] == pytest.approx([5000, 20000])

    def test_growing_batch_gives_times_per_image(self):
        sizes = [Size(batch, 64, 64) for batch in (1, 4)]
        (curve,), of_batch = growth_curves(growth(sizes, {'row': [0.1, 0.2]}))
        assert of_batch
        assert curve.sizes == (1, 4)
        assert [spread.median for spread in curve.milliseconds] == pytest.approx([100, 50])


class TestLabels:
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
    def test_are_apart_and_keep_their_order(self, places, gap):
        spread = spread_apart(places, gap)
        order = sorted(range(len(places)), key=lambda index: places[index])
        following = [spread[index] for index in order]
        assert all(b - a >= gap * (1 - 1e-6) for a, b in pairwise(following))
        assert np.mean(spread) == pytest.approx(np.mean(places))

    def test_do_not_move_if_there_is_room(self):
        assert spread_apart([0.9, 0.1, 0.5], 0.2) == [0.9, 0.1, 0.5]

    def test_move_by_equal_amounts(self):
        assert spread_apart([0.5, 0.5, 0.0], 0.2) == pytest.approx([0.4, 0.6, 0.0])


class TestPicture:
    def test_has_a_line_for_each_row(self):
        names = [f'row {number}' for number in range(len(COLORS) + 2)]
        seconds = {name: [0.1 * (place + 1), 0.5, 2.0] for place, name in enumerate(names)}
        picture = Image.open(io.BytesIO(draw_growth(growth(SQUARES, seconds), 'title')))
        assert picture.format == 'PNG'
        pixels = np.asarray(picture.convert('RGB')).reshape(-1, 3)
        for color in COLORS:
            rgb = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
            assert (pixels == rgb).all(1).sum() > 100

    def test_every_color_has_its_own_marker(self):
        assert len(set(COLORS)) == len(set(MARKERS)) == len(COLORS)
