"""Sweeps: many trainings and tests on this machine or on Slurm, each done exactly once."""
