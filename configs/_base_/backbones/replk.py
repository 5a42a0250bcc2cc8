"""Large depthwise convolution (RepLKNet), four scales.

`drop_path_rate` of a scale is for Mask R-CNN; UperNet and ImageNet override it, see `drop_path_rates`.

Deeper than RepLKNet, whose blocks have two more projections around the convolution.
"""

replk_micro = dict(
    type='UnifiedBackbone',
    mixer=dict(type='replk', kernel_size=[31, 29, 27, 13]),
    dims=[32, 64, 128, 256],
    depths=[1, 2, 6, 3],
    drop_path_rate=0.1,
)

replk_tiny = dict(
    type='UnifiedBackbone',
    mixer=dict(type='replk', kernel_size=[31, 29, 27, 13]),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 6, 3],
    drop_path_rate=0.2,
)

replk_small = dict(
    type='UnifiedBackbone',
    mixer=dict(type='replk', kernel_size=[31, 29, 27, 13]),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 21, 3],
    drop_path_rate=0.2,
)

replk_base = dict(
    type='UnifiedBackbone',
    mixer=dict(type='replk', kernel_size=[31, 29, 27, 13]),
    dims=[128, 256, 512, 1024],
    depths=[2, 2, 22, 3],
    drop_path_rate=0.3,
)

# For `--backbone`, by task; leaves state the same values.
drop_path_rates = dict(
    semantic_segmentation=dict(tiny=0.3, small=0.3, base=0.3),
    classification=dict(micro=0.0, tiny=0.2, small=0.3, base=0.5),
)
