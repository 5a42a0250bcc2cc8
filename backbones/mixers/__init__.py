"""Spatial token mixers.

To add one, write its file in this folder and add it to `MIXERS`; configs, tests and tools find it there.
"""

from backbones.mixers.agent import AgentAttention
from backbones.mixers.base import TokenMixer
from backbones.mixers.convnext import DepthwiseConvolution
from backbones.mixers.dcn import DeformableConvolutionV3
from backbones.mixers.dcnv4 import DeformableConvolutionV4
from backbones.mixers.focal import FocalModulation
from backbones.mixers.halo import HaloAttention
from backbones.mixers.identity import Identity
from backbones.mixers.linear_attention import LinearAttention
from backbones.mixers.nat import NeighborhoodAttention
from backbones.mixers.pool import Pooling
from backbones.mixers.pvt import SpatialReductionAttention
from backbones.mixers.replk import LargeKernelConvolution
from backbones.mixers.ss2d import SelectiveScan2D
from backbones.mixers.swin import ShiftedWindowAttention

MIXERS: dict[str, type[TokenMixer]] = {
    'halo': HaloAttention,
    'pvt': SpatialReductionAttention,
    'swin': ShiftedWindowAttention,
    'convnext': DepthwiseConvolution,
    'dcn': DeformableConvolutionV3,
    'nat': NeighborhoodAttention,
    'ss2d': SelectiveScan2D,
    'linear_attention': LinearAttention,
    'dcnv4': DeformableConvolutionV4,
    'replk': LargeKernelConvolution,
    'focal': FocalModulation,
    'agent': AgentAttention,
    'pool': Pooling,
    'identity': Identity,
}
# Compared in arXiv 2211.05781; the others were added to the suite later.
PAPER_MIXERS = ('halo', 'pvt', 'swin', 'convnext', 'dcn')

__all__ = ['MIXERS', 'PAPER_MIXERS', 'TokenMixer']
