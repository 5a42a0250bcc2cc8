"""`encode_masks` against pycocotools' own encoding, by both ways of finding the runs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from evaluation.metrics import run_lengths
from evaluation.metrics.run_lengths import encode_masks, ends_of_each, ends_on_device

every_way = pytest.mark.parametrize('ends', [ends_of_each, ends_on_device])
MASKS = arrays.arrays(
    bool, st.tuples(st.integers(0, 4), st.integers(1, 7), st.integers(1, 9)), elements=st.booleans()
)


def expected(masks):
    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]


def encoded(masks, ends):
    """Codes by a given way, whatever device the masks are on."""
    shape = masks.shape[1:]
    return [run_lengths._code(each, *shape) for each in ends(torch.from_numpy(masks))]


@every_way
@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_same_bytes(ends, masks):
    assert encoded(masks, ends) == expected(masks)


@every_way
def test_all_none_and_single_pixels(ends):
    masks = np.zeros((6, 5, 4), bool)
    masks[1] = True
    for number, (row, column) in enumerate([(0, 0), (4, 0), (0, 3), (4, 3)], start=2):
        masks[number, row, column] = True
    assert encoded(masks, ends) == expected(masks)


@every_way
def test_pixel_by_pixel(ends):
    """Runs go down the columns, zeros first."""
    mask = np.array([[[0, 1, 1], [1, 1, 0]]], bool)
    assert [each.tolist() for each in ends(torch.from_numpy(mask))] == [[1, 5]]
    mask = ~mask
    assert [each.tolist() for each in ends(torch.from_numpy(mask))] == [[0, 1, 5]]


@pytest.mark.parametrize(
    'device',
    [
        'cpu',
        pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')),
    ],
)
def test_masks_of_a_detector(device):
    """Large blobs, a view that is not contiguous, and the decoded masks."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:97, :130]
    centers, radii = random.uniform(0, 130, (12, 2)), random.uniform(0, 60, 12)
    masks = np.stack(
        [(rows - y) ** 2 + (columns - x) ** 2 < r**2 for (y, x), r in zip(centers, radii, strict=True)]
    )
    on_device = torch.from_numpy(masks).to(device)
    codes = encode_masks(on_device[:, ::2])
    assert codes == expected(masks[:, ::2])
    assert np.array_equal(coco_mask.decode(codes).transpose(2, 0, 1), masks[:, ::2])


def test_no_masks():
    assert encode_masks(torch.zeros(0, 5, 6, dtype=torch.bool)) == []
