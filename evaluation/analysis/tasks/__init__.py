"""What an analysis needs of a task: images with their truth, predictions, and measures of both."""
