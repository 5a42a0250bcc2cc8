"""Depthwise convolution (ConvNeXt), four scales.

`drop_path_rate` of a scale is for Mask R-CNN; UperNet and ImageNet override it, see `drop_path_rates`.
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

# For `--backbone`, by task; leaves state the same values.
drop_path_rates = dict(
    semantic_segmentation=dict(tiny=0.3, small=0.3, base=0.3),
    classification=dict(micro=0.0, tiny=0.1, small=0.4, base=0.5),
)
