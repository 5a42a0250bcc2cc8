"""Statistical comparison of models: paired tests, intervals, and spread over seeds."""
