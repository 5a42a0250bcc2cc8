"""Models around a backbone: classifier, test-time augmentation, weights, complexity."""
