"""How accurate a model stays on images that an attack or a bad camera changed."""

import backbones  # noqa: F401  (before mmdet, which needs its operators)
