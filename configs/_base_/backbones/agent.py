"""Agent attention (Agent-Swin), four scales.

`drop_path_rate` of a scale is for Mask R-CNN; UperNet and ImageNet override it, see `drop_path_rates`.
"""

agent_micro = dict(
    type='UnifiedBackbone',
    mixer=dict(
        type='agent',
        num_heads=[1, 2, 4, 8],
        agent_num=[9, 16, 49, 49],
        bias_grid=[56, 28, 14, 7],
    ),
    dims=[32, 64, 128, 256],
    depths=[2, 2, 8, 2],
    drop_path_rate=0.1,
)

agent_tiny = dict(
    type='UnifiedBackbone',
    mixer=dict(
        type='agent',
        num_heads=[3, 6, 12, 24],
        agent_num=[9, 16, 49, 49],
        bias_grid=[56, 28, 14, 7],
    ),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 6, 2],
    drop_path_rate=0.2,
)

agent_small = dict(
    type='UnifiedBackbone',
    mixer=dict(
        type='agent',
        num_heads=[3, 6, 12, 24],
        agent_num=[9, 16, 49, 49],
        bias_grid=[56, 28, 14, 7],
    ),
    dims=[96, 192, 384, 768],
    depths=[2, 2, 18, 2],
    drop_path_rate=0.2,
)

agent_base = dict(
    type='UnifiedBackbone',
    mixer=dict(
        type='agent',
        num_heads=[4, 8, 16, 32],
        agent_num=[9, 16, 49, 49],
        bias_grid=[56, 28, 14, 7],
    ),
    dims=[128, 256, 512, 1024],
    depths=[2, 2, 18, 2],
    drop_path_rate=0.3,
)

# For `--backbone`, by task; leaves state the same values.
drop_path_rates = dict(
    semantic_segmentation=dict(tiny=0.3, small=0.3, base=0.3),
    classification=dict(micro=0.0, tiny=0.2, small=0.3, base=0.5),
)
