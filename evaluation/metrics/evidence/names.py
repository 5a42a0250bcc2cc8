"""Names of images by which the evaluations of two models are put side by side."""

import os
from collections.abc import Sequence


def image_names(paths: Sequence[str | None]) -> list[str]:
    """Paths without the folders that all have in common, so that it does not matter where data lie.

    Args:
        paths: of images.

    Raises:
        ValueError: one is not known, or one occurs twice.
    """
    if None in paths:
        raise ValueError('the path of an image is not known')
    whole = [os.path.abspath(path) for path in paths]
    if len(set(whole)) < len(whole):
        raise ValueError('an image occurs twice')
    folder = os.path.commonpath([os.path.dirname(path) for path in whole]) if whole else ''
    return [os.path.relpath(path, folder).replace(os.sep, '/') for path in whole]
