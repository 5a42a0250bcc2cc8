"""Metrics evaluated by the runner, and the per-image records that they leave in a result."""
