"""Fast paths on CUDA, compiled by Triton. `DENSE_MIXERS_CUDA=reference` turns all of them off."""
