"""Neighborhood attention (NAT), four scales.

`drop_path_rate` of a scale is for Mask R-CNN; UperNet and ImageNet override it, see `drop_path_rates`.

Deeper than NAT in the third stage; the MLP ratios are those of NAT.
"""

nat_micro = dict(
    type='UnifiedBackbone',
    mixer=dict(type='nat', num_heads=[1, 2, 4, 8]),
    dims=[32, 64, 128, 256],
    depths=[2, 2, 8, 2],
    drop_path_rate=0.1,
)

nat_tiny = dict(
    type='UnifiedBackbone',
    mixer=dict(type='nat', num_heads=[2, 4, 8, 16]),
    dims=[64, 128, 256, 512],
    depths=[3, 4, 22, 5],
    mlp_ratios=[3, 3, 3, 3],
    drop_path_rate=0.2,
)

nat_small = dict(
    type='UnifiedBackbone',
    mixer=dict(type='nat', num_heads=[3, 6, 12, 24]),
    dims=[96, 192, 384, 768],
    depths=[3, 4, 24, 4],
    mlp_ratios=[2, 2, 2, 2],
    drop_path_rate=0.2,
)

nat_base = dict(
    type='UnifiedBackbone',
    mixer=dict(type='nat', num_heads=[4, 8, 16, 32]),
    dims=[128, 256, 512, 1024],
    depths=[3, 4, 24, 4],
    mlp_ratios=[2, 2, 2, 2],
    drop_path_rate=0.3,
)

# For `--backbone`, by task; leaves state the same values.
drop_path_rates = dict(
    semantic_segmentation=dict(tiny=0.3, small=0.3, base=0.3),
    classification=dict(micro=0.0, tiny=0.2, small=0.3, base=0.5),
)
