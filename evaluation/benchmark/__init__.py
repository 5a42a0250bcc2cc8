"""Time whole models and backbones side by side, relative to the rate of matrix products.

`subjects` and `peers` define what is timed, `passes` one pass, and `rounds` times all subjects and the
matrix product in turn, so that the drift of a shared machine affects all equally.
"""
