"""Shifted window attention (Swin Transformer), four scales.

`drop_path_rate` is for Mask R-CNN; leaves of UperNet and ImageNet override it.
"""

swin_micro = dict(
    type='UnifiedBackbone',
    mixer=dict(type='swin', num_heads=[1, 2, 4, 8]),
    dims=[32, 64, 128, 256],
    depths=[2, 2, 9, 2],
    drop_path_rate=0.1,
)

swin_tiny = dict(
    type='UnifiedBackbone',
    mixer=dict(type='swin', num_heads=[3, 6, 12, 24]),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 6, 2],
    drop_path_rate=0.2,
)

swin_small = dict(
    type='UnifiedBackbone',
    mixer=dict(type='swin', num_heads=[3, 6, 12, 24]),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 18, 2],
    drop_path_rate=0.2,
)

swin_base = dict(
    type='UnifiedBackbone',
    mixer=dict(type='swin', num_heads=[4, 8, 16, 32]),
    dims=[128, 256, 512, 1024],
    depths=[2, 2, 18, 2],
    drop_path_rate=0.3,
)
