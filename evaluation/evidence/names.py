"""Names of images by which the evaluations of two models are put side by side."""

import os
from collections.abc import Sequence


def image_names(paths: Sequence[str | None]) -> list[str] | None:
    """Paths without the folders that all have in common, so that it does not matter where data lie.

    Args:
        paths: of images.

    Returns:
        None where one is not known, or one occurs twice.
    """
    if None in paths or len(set(paths)) < len(paths):
        return None
    folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ''
    return [os.path.relpath(path, folder or '.').replace(os.sep, '/') for path in paths]
