"""Masks as COCO's run-length codes."""

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from torch import Tensor


def encode_masks(masks: Tensor) -> list[dict]:
    """Run-length codes of masks, the bytes that `pycocotools.mask.encode` gives.

    From a GPU only the places where a mask begins and ends are copied, not every pixel.

    Args:
        masks: (N, H, W), bool, on any device.

    Returns:
        of each, `size` as [H, W] and the compressed `counts`.
    """
    height, width = masks.shape[1:]
    ends = ends_on_device(masks) if masks.is_cuda else ends_of_each(masks)
    return [_code(each, height, width) for each in ends]


def ends_on_device(masks: Tensor) -> Iterator[np.ndarray]:
    """Where the runs of each of (N, H, W) masks end, found for all at once.

    Yields:
        (runs - 1,) ascending places in the order of COCO, down the columns; the first run is of
        zeros, so it ends at 0 where the first pixel is set.
    """
    columns = masks.transpose(1, 2).flatten(1)
    starts_set = columns[:, :1]
    # As if a pixel that is not set came before the first.
    changes = columns.diff(dim=1, prepend=starts_set.new_zeros(starts_set.shape))
    mask_index, place = changes.nonzero().cpu().numpy().T
    bounds = np.searchsorted(mask_index, np.arange(len(masks) + 1))
    return (place[start:end] for start, end in pairwise(bounds))


def ends_of_each(masks: Tensor) -> Iterator[np.ndarray]:
    """The same, a mask at a time: on a CPU one mask stays in the cache."""
    for mask in masks.numpy().view(np.uint8):
        column = cv2.transpose(mask).ravel()
        changes = np.flatnonzero(column[1:] != column[:-1]) + 1
        yield np.concatenate([[0], changes]) if column[0] else changes


def _code(ends: np.ndarray, height: int, width: int) -> dict:
    counts = np.diff(ends, prepend=0, append=height * width).tolist()
    return coco_mask.frPyObjects({'size': [height, width], 'counts': counts}, height, width)
