"""Deformable convolution v4 (FlashInternImage), four scales.

`drop_path_rate` of a scale is for Mask R-CNN; UperNet and ImageNet override it, see `drop_path_rates`.

Tiny and small have one and two more blocks than FlashInternImage.
"""

dcnv4_micro = dict(
    type='UnifiedBackbone',
    mixer=dict(type='dcnv4', num_heads=[2, 4, 8, 16]),
    dims=[32, 64, 128, 256],
    depths=[2, 2, 9, 2],
    drop_path_rate=0.1,
)

dcnv4_tiny = dict(
    type='UnifiedBackbone',
    mixer=dict(type='dcnv4', num_heads=[4, 8, 16, 32], dw_kernel_size=None),
    dims=[64, 128, 256, 512],
    depths=[4, 4, 19, 4],
    drop_path_rate=0.2,
)

dcnv4_small = dict(
    type='UnifiedBackbone',
    mixer=dict(type='dcnv4', num_heads=[5, 10, 20, 40]),
    dims=[80, 160, 320, 640],
    depths=[4, 4, 23, 4],
    drop_path_rate=0.2,
)

dcnv4_base = dict(
    type='UnifiedBackbone',
    mixer=dict(type='dcnv4', num_heads=[7, 14, 28, 56], offset_scale=0.5),
    dims=[112, 224, 448, 896],
    depths=[4, 4, 21, 4],
    drop_path_rate=0.3,
)

# For `--backbone`, by task; leaves state the same values.
drop_path_rates = dict(
    semantic_segmentation=dict(tiny=0.3, small=0.3, base=0.3),
    classification=dict(micro=0.0, tiny=0.1, small=0.4, base=0.5),
)
