"""What each image contributed to an evaluation's figures, compact enough to resample the images."""
