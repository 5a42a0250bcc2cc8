"""Invariance: how a model's predictions change when the image is moved, turned or scaled."""
