"""Linear attention (MLLA), four scales.

`drop_path_rate` of a scale is for Mask R-CNN; UperNet and ImageNet override it, see `drop_path_rates`.

The dims are those of swin: with those of MLLA, whose blocks have more projections, the depths would
double.
"""

linear_attention_micro = dict(
    type='UnifiedBackbone',
    mixer=dict(type='linear_attention', num_heads=[1, 2, 4, 8]),
    dims=[32, 64, 128, 256],
    depths=[2, 2, 12, 2],
    drop_path_rate=0.1,
)

linear_attention_tiny = dict(
    type='UnifiedBackbone',
    mixer=dict(type='linear_attention', num_heads=[3, 6, 12, 24]),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 9, 2],
    drop_path_rate=0.2,
)

linear_attention_small = dict(
    type='UnifiedBackbone',
    mixer=dict(type='linear_attention', num_heads=[3, 6, 12, 24]),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 23, 2],
    drop_path_rate=0.2,
)

linear_attention_base = dict(
    type='UnifiedBackbone',
    mixer=dict(type='linear_attention', num_heads=[4, 8, 16, 32]),
    dims=[128, 256, 512, 1024],
    depths=[2, 2, 23, 2],
    drop_path_rate=0.3,
)

# For `--backbone`, by task; leaves state the same values.
drop_path_rates = dict(
    semantic_segmentation=dict(tiny=0.3, small=0.3, base=0.3),
    classification=dict(micro=0.0, tiny=0.2, small=0.3, base=0.5),
)
