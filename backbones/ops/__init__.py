"""Operators for mixers that PyTorch lacks or that are faster here."""

from backbones.ops.dcnv3 import dcnv3

__all__ = ['dcnv3']
