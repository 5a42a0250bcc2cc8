"""Spatial-reduction attention (Pyramid Vision Transformer), four scales.

`drop_path_rate` of a scale is for Mask R-CNN; UperNet and ImageNet override it, see `drop_path_rates`.
"""

pvt_micro = dict(
    type='UnifiedBackbone',
    mixer=dict(type='pvt', num_heads=[1, 2, 5, 8], sr_ratio=[8, 4, 2, 1]),
    dims=[32, 64, 160, 256],
    depths=[2, 2, 3, 2],
    mlp_ratios=[8, 8, 4, 4],
    pos_embed_sizes=[56, 28, 14, 7],
    drop_path_rate=0.1,
)

pvt_tiny = dict(
    type='UnifiedBackbone',
    mixer=dict(type='pvt', num_heads=[1, 2, 5, 8], sr_ratio=[8, 4, 2, 1]),
    dims=[64, 128, 320, 512],
    depths=[3, 4, 9, 3],
    mlp_ratios=[8, 8, 4, 4],
    pos_embed_sizes=[56, 28, 14, 7],
    drop_path_rate=0.2,
)

pvt_small = dict(
    type='UnifiedBackbone',
    mixer=dict(type='pvt', num_heads=[1, 2, 5, 8], sr_ratio=[8, 4, 2, 1]),
    dims=[64, 128, 320, 512],
    depths=[3, 4, 21, 3],
    mlp_ratios=[8, 8, 4, 4],
    pos_embed_sizes=[56, 28, 14, 7],
    drop_path_rate=0.2,
)

pvt_base = dict(
    type='UnifiedBackbone',
    mixer=dict(type='pvt', num_heads=[1, 2, 5, 8], sr_ratio=[8, 4, 2, 1]),
    dims=[64, 128, 320, 512],
    depths=[3, 8, 45, 3],
    mlp_ratios=[4, 4, 4, 4],
    pos_embed_sizes=[56, 28, 14, 7],
    drop_path_rate=0.3,
)

# For `--backbone`, by task; leaves state the same values.
drop_path_rates = dict(
    semantic_segmentation=dict(tiny=0.3, small=0.3, base=0.3),
    classification=dict(micro=0.0, tiny=0.1, small=0.3, base=0.5),
)
