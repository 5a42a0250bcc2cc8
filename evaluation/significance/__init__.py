"""Which differences between models are real: intervals by resampling images, spread over seeds."""
