"""`--compile`: networks by `torch.compile`, in place and for all sizes of images."""
