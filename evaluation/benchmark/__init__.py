"""Times whole models and backbones side by side, with the rate of matrix products as the measure.

What is timed is a subject (`subjects`, `peers`); `passes` says what one pass is; `rounds` times all
subjects and the matrix product in turn, so that the drift of a shared machine hits all alike.
"""
