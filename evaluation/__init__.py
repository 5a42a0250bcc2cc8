"""What is measured beside AP and mIoU, how runs are set up, and how results become tables."""
