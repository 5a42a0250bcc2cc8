"""Images as a model's preprocessor takes them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor


def as_tensors(images: Sequence[np.ndarray]) -> list[Tensor]:
    """Images (H, W, 3) as (3, H, W)."""
    return [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images]


def batches(images: Sequence[np.ndarray], batch: int) -> Iterator[Sequence[np.ndarray]]:
    """Runs of images of one size, each of at most `batch`: padding would change what is predicted."""
    start = 0
    for stop in range(1, len(images) + 1):
        is_full = stop - start == batch or stop == len(images)
        if is_full or images[stop].shape != images[start].shape:
            yield images[start:stop]
            start = stop


def mean_color(cfg: Config) -> tuple[int, int, int]:
    """The mean that the model's preprocessor subtracts, rounded, in BGR order; black without one."""
    settings = cfg.model.get('data_preprocessor') or {}
    mean = [round(value) for value in settings.get('mean') or (0, 0, 0)]
    return tuple(mean[::-1] if settings.get('bgr_to_rgb') else mean)
