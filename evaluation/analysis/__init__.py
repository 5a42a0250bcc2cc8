"""Analyses of a trained model beyond AP and mIoU: receptive field, invariance, robustness."""
