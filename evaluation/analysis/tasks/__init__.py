"""What an analysis needs of a task: images with their truth, predictions, and measures of both."""

import backbones  # noqa: F401  (before mmdet, which needs its operators)
