"""Effective receptive field: how much each pixel of the image contributes to the middle of a map."""

import backbones  # noqa: F401  (before mmdet, which needs its operators)
