from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.benchmark.sizes import Size, growing_sizes, smaller_sizes
from evaluation.utils.errors import UserError

SIDES = st.integers(1, 10_000)


class TestGrowth:
    def test_every_size_once_and_the_smallest_first(self):
        shapes = [(64, 64), (32, 32), (64, 64)]
        assert growing_sizes(shapes, [3]) == [Size(3, 32, 32), Size(3, 64, 64)]
        assert growing_sizes([(64, 96)], [4, 1, 4]) == [Size(1, 64, 96), Size(4, 64, 96)]

    def test_not_both_at_a_time(self):
        with pytest.raises(UserError, match='let one of them grow'):
            growing_sizes([(32, 32), (64, 64)], [1, 2])


class TestSmaller:
    def test_sides_first_then_the_batch(self):
        assert smaller_sizes(Size(4, 100, 256)) == [
            Size(1, 32, 32),
            Size(1, 32, 64),
            Size(1, 64, 128),
            Size(1, 100, 256),
            Size(2, 100, 256),
        ]

    @given(batch=st.integers(1, 1000), height=SIDES, width=SIDES)
    def test_each_is_smaller_than_the_next_and_at_least_half_of_it(self, batch, height, width):
        rising = [*smaller_sizes(Size(batch, height, width)), Size(batch, height, width)]
        for size, following in pairwise(rising):
            assert size.pixels < following.pixels <= 6 * size.pixels
            assert size.batch <= following.batch <= 2 * size.batch + 1
            for side, larger in ((size.height, following.height), (size.width, following.width)):
                assert larger / 2 <= side <= larger
        assert rising[0].batch == 1
        assert max(rising[0].height, rising[0].width) <= 32

    @given(height=SIDES, width=SIDES)
    def test_sides_are_multiples_of_the_coarsest_stride(self, height, width):
        for size in smaller_sizes(Size(1, height, width)):
            assert size.height % 32 == 0 or size.height == height < 32
            assert size.width % 32 == 0 or size.width == width < 32


def test_says_images_and_what_is_height():
    assert str(Size(1, 64, 96)) == '1 image of 64x96 (height x width)'
    assert str(Size(2, 64, 96)) == '2 images of 64x96 (height x width)'
