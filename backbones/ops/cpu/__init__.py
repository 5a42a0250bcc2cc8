"""Fast paths on the CPU: numba kernels and private PyTorch operators, each with a public fallback.

`DENSE_MIXERS_CPU=reference` turns all of them off.
"""
