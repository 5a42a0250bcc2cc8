"""Invariance: how predictions change when the image is translated, rotated or scaled."""
