"""The fifteen common corruptions of ImageNet-C, drawn the same whenever an image is met.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", arXiv 1903.12261, section 4.1.
"""

import inspect

import numpy as np
from imagecorruptions import corrupt, corruption_dict, get_corruption_names

from evaluation.utils.errors import UserError
from evaluation.utils.random_state import seeded

CORRUPTIONS = tuple(get_corruption_names('common'))
KINDS = {kind: get_corruption_names(kind) for kind in ('noise', 'blur', 'weather', 'digital')}
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 32


def corrupted(image: np.ndarray, name: str, severity: int, seed: int, index: int) -> np.ndarray:
    """A corrupted image, (H, W, 3), uint8.

    What is random depends on `seed`, `index` and `name` alone, so that severities differ in nothing
    else.

    Args:
        image: (H, W, 3), uint8, BGR.
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of the whole analysis.
        index: number of the image in its data set.

    Raises:
        UserError: the image is smaller than 32x32.
    """
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise UserError(
            f'corruptions need images of {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels at least, and image '
            f'{index} of the data set, counted from 0, has {width}x{height}; take it out, or give '
            '--corruptions none'
        )
    number = CORRUPTIONS.index(name)
    # These take their own generator, all others the global one.
    draws_from_seed = 'seed' in inspect.signature(corruption_dict[name]).parameters
    own = {'seed': own_seed(seed, index, number)} if draws_from_seed else {}
    with seeded(seed, index, number):
        changed = corrupt(np.ascontiguousarray(image[..., ::-1]), severity, name, **own)
    return np.ascontiguousarray(changed[..., ::-1])


def own_seed(*numbers: int) -> int:
    """A seed of 32 bits, which is what compiled functions take."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
