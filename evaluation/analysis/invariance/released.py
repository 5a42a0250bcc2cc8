"""Views of an image as the code released with arXiv 2211.05781 makes them."""

import numpy as np
from PIL import Image
from torchvision.transforms import functional as transforms

from evaluation.analysis.invariance.classification import ClassificationComparison
from evaluation.analysis.invariance.conditions import ROTATION, SCALE, Condition
from evaluation.analysis.protocols import RELEASED
from evaluation.analysis.subject import Subject
from evaluation.analysis.tasks.samples import Sample

BLACK = (0, 0, 0)


class ReleasedComparison(ClassificationComparison):
    """A translation cuts a window at the border of the image and puts what is left in the middle.

    The release draws one of seven directions for each image. Here figures are means over all seven,
    which is what the draw gives on average.

    Args:
        subject: a classifier.
        rotate_first: whether to turn the image before its middle is cut out, and not after.
    """

    def __init__(self, subject: Subject, rotate_first: bool) -> None:
        super().__init__(subject, BLACK, rotate_first)
        self.facts = {**self.facts, 'protocol': RELEASED}

    def image(self, sample: Sample, condition: Condition) -> np.ndarray:
        """The changed image, (side, side, 3), uint8, BGR."""
        is_scale = condition.transform == SCALE
        whole = self._resized(sample.original, condition.strength if is_scale else self._crop_ratio)
        if condition.transform not in (ROTATION, SCALE):
            return recentred_window(whole, self._side, condition.shift)
        picture = Image.fromarray(whole)
        turns = condition.transform == ROTATION
        if turns and self._rotate_first:
            picture = self._turned(picture, condition.strength)
        picture = transforms.center_crop(picture, self._side)
        if turns and not self._rotate_first:
            picture = self._turned(picture, condition.strength)
        return np.asarray(picture)

    def _turned(self, picture: Image.Image, degrees: float) -> Image.Image:
        return transforms.rotate(picture, degrees, transforms.InterpolationMode.BICUBIC)


def recentred_window(image: np.ndarray, side: int, shift: tuple[int, int]) -> np.ndarray:
    """Cut a moved window, limited to the image, and put it in the middle of black.

    Args:
        image: (H, W, 3), uint8.
        side: of the window, in pixels.
        shift: pixels right and down by which the content moves, before it is put in the middle.

    Returns:
        (side, side, 3).
    """
    right, down = shift
    rows = _kept(image.shape[0], side, down)
    columns = _kept(image.shape[1], side, right)
    strip = image[rows, columns]
    top, left = ((side - length) // 2 for length in strip.shape[:2])
    result = np.zeros((side, side, 3), np.uint8)
    result[top : top + strip.shape[0], left : left + strip.shape[1]] = strip
    return result


def _kept(length: int, side: int, move: int) -> slice:
    """What of a line a window has whose middle moves against the content, without what lies outside."""
    middle, half = length // 2 - move, side // 2
    first = min(max(middle - half, 0), length)
    return slice(first, max(min(middle + half, length), first))
