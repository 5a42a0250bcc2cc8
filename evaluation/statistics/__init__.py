"""Which differences between models are real: paired tests, intervals, and spread over seeds."""
