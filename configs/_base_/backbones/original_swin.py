"""Swin Transformer (Liu et al., arXiv 2103.14030) as published, by timm, for comparison with `swin`.

Window size 7 at every image size, and an output norm on each map. `drop_path_rate` is that of the
published Mask R-CNN (3x), of Cascade Mask R-CNN at base.
"""

original_swin_tiny = dict(
    type='TimmBackbone', model_name='swin_tiny_patch4_window7_224.ms_in1k', drop_path_rate=0.2
)

original_swin_small = dict(
    type='TimmBackbone', model_name='swin_small_patch4_window7_224.ms_in1k', drop_path_rate=0.2
)

original_swin_base = dict(
    type='TimmBackbone', model_name='swin_base_patch4_window7_224.ms_in1k', drop_path_rate=0.3
)

drop_path_rates = dict(
    semantic_segmentation=dict(tiny=0.3, small=0.3, base=0.3),
    classification=dict(tiny=0.2, small=0.3, base=0.5),
)

contestants = dict(
    original_swin_tiny=dict(family='original', mixer='swin', scale='tiny'),
    original_swin_small=dict(family='original', mixer='swin', scale='small'),
    original_swin_base=dict(family='original', mixer='swin', scale='base'),
)
