"""Check of a GPU: correctness, training, and speed of the suite on one device, in stages."""
