"""What is built around a backbone: the classifier, test-time augmentation, weights, complexity."""
