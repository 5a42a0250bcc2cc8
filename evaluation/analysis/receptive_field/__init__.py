"""Effective receptive field: how much each pixel of the image contributes to the middle of a map."""
