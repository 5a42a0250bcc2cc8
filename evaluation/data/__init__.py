"""Data sets: checks before the start, checked loading, and reproducible augmentation."""
