"""Schema and reader of `result.json`."""
