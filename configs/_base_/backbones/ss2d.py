"""Two-dimensional selective scan (VMamba), four scales.

`drop_path_rate` of a scale is for Mask R-CNN; UperNet and ImageNet override it, see `drop_path_rates`.

Small and base have one more block than VMamba.
"""

ss2d_micro = dict(
    type='UnifiedBackbone',
    mixer=dict(type='ss2d'),
    dims=[32, 64, 128, 256],
    depths=[3, 2, 8, 3],
    drop_path_rate=0.1,
)

ss2d_tiny = dict(
    type='UnifiedBackbone',
    mixer=dict(type='ss2d'),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 8, 2],
    drop_path_rate=0.2,
)

ss2d_small = dict(
    type='UnifiedBackbone',
    mixer=dict(type='ss2d'),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 21, 2],
    drop_path_rate=0.2,
)

ss2d_base = dict(
    type='UnifiedBackbone',
    mixer=dict(type='ss2d'),
    dims=[128, 256, 512, 1024],
    depths=[2, 2, 21, 2],
    drop_path_rate=0.3,
)

# For `--backbone`, by task; leaves state the same values.
drop_path_rates = dict(
    semantic_segmentation=dict(tiny=0.3, small=0.3, base=0.3),
    classification=dict(micro=0.0, tiny=0.2, small=0.3, base=0.5),
)
