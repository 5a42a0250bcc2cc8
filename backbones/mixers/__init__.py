"""Spatial token mixers.

To add one, write its file in this folder and add it to `MIXERS`; configs, tests and tools find it there.
"""

from backbones.mixers.base import TokenMixer
from backbones.mixers.convnext import DepthwiseConvolution
from backbones.mixers.dcn import DeformableConvolutionV3
from backbones.mixers.halo import HaloAttention
from backbones.mixers.identity import Identity
from backbones.mixers.nat import NeighborhoodAttention
from backbones.mixers.pool import Pooling
from backbones.mixers.pvt import SpatialReductionAttention
from backbones.mixers.swin import ShiftedWindowAttention

MIXERS: dict[str, type[TokenMixer]] = {
    'halo': HaloAttention,
    'pvt': SpatialReductionAttention,
    'swin': ShiftedWindowAttention,
    'convnext': DepthwiseConvolution,
    'dcn': DeformableConvolutionV3,
    'nat': NeighborhoodAttention,
    'pool': Pooling,
    'identity': Identity,
}

__all__ = ['MIXERS', 'TokenMixer']
