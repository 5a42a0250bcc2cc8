"""Run setup, measurements beyond AP and mIoU, and tables of results."""
