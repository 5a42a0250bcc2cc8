"""Checkpoints of trainings: which is the last, which is whole, and how one becomes released weights."""
