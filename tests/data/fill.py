"""Deterministic weights, inputs and probes behind the figures in this folder.

Any implementation that can name its parameters as `released_names.json` does reproduces them.
"""

import zlib

import numpy as np


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value of the released parameter or buffer `name`, float32, of the given shape."""
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'running_var':
        return 1 + 0.1 * np.abs(noise)
    if leaf == 'running_mean':
        return 0.1 * noise
    if leaf.startswith('gamma'):
        return 0.5 + 0.1 * noise
    if leaf in ('relative_position_bias_table', 'height_rel', 'width_rel', 'pos_embed'):
        return 0.5 * noise
    if leaf == 'bias':
        return 0.1 * noise
    if noise.ndim == 1:  # the weight of a norm
        return 1 + 0.1 * noise
    return (noise / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def image(batch: int, height: int, width: int) -> np.ndarray:
    """Input batch, (batch, 3, height, width) float32, already normalized."""
    return np.random.RandomState(0).standard_normal((batch, 3, height, width)).astype(np.float32)


def cotangent(stage: int, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of stage `stage` (0-3) in the loss: loss = sum over stages of mean(output * cotangent)."""
    return np.random.RandomState(7 + stage).standard_normal(shape).astype(np.float32)
