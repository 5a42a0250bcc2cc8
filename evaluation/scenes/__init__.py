"""Generated scenes with ground truth, in the layouts of public data sets."""
