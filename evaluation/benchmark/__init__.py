"""Time whole models and backbones side by side, relative to the rate of matrix products.

`subjects` defines what is timed and `passes` one pass; `measuring` times all subjects and the matrix
product in turn, so that drift on a shared machine affects all equally.
"""
