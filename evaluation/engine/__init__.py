"""Training and testing by mmengine's runner: commands, hooks, checkpoints, faults."""
