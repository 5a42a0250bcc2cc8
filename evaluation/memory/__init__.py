"""Predicted memory of a training step.

`prediction` runs a whole step on tensors without values: `shapes_only` gives operators that depend on
values an assumed result, `graph` runs the backward pass, and `live` adds up the tensors that exist.
"""
