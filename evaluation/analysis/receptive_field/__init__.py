"""Effective receptive field: contribution of each pixel to the center of a feature map."""

import backbones  # noqa: F401  (before mmdet, which needs its operators)
