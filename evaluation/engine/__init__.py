"""Training and testing with mmengine's runner: commands, hooks, checkpoints, faults."""
