"""Data sets: checked before the start, loaded with care, augmented reproducibly."""
