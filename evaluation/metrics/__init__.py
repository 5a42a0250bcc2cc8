"""Metrics of detectors and segmenters, as the runner evaluates them, and what they hand to a result."""
