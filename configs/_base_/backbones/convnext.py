"""Depthwise convolution (ConvNeXt), four scales.

`drop_path_rate` is for Mask R-CNN; leaves of UperNet and ImageNet override it.
"""

convnext_micro = dict(
    type='UnifiedBackbone',
    mixer=dict(type='convnext'),
    dims=[32, 64, 128, 256],
    depths=[3, 3, 8, 3],
    drop_path_rate=0.1,
)

convnext_tiny = dict(
    type='UnifiedBackbone',
    mixer=dict(type='convnext'),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 9, 2],
    drop_path_rate=0.2,
)

convnext_small = dict(
    type='UnifiedBackbone',
    mixer=dict(type='convnext'),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 24, 2],
    drop_path_rate=0.2,
)

convnext_base = dict(
    type='UnifiedBackbone',
    mixer=dict(type='convnext'),
    dims=[128, 256, 512, 1024],
    depths=[2, 2, 24, 2],
    drop_path_rate=0.3,
)
