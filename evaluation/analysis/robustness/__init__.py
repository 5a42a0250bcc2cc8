"""Robustness: accuracy of a model on attacked and corrupted images."""

import backbones  # noqa: F401  (before mmdet, which needs its operators)
