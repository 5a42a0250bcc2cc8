"""Hooks of mmengine's runner, for training and testing."""
