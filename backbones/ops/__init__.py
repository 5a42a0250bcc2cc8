"""Operators of the mixers that need more than PyTorch's own."""

from backbones.ops.dcnv3 import dcnv3

__all__ = ['dcnv3']
