"""ConvNeXt (Liu et al., arXiv 2201.03545) as published, by timm, for comparison with `convnext`.

Layer scales start from 1 in the published dense models, and each map has an output norm.
`drop_path_rate` is that of the published Mask R-CNN (3x), of Cascade Mask R-CNN at small and base. The
published models also use layer-wise learning rate decay, which is not part of the common recipe.
"""

original_convnext_tiny = dict(
    type='TimmBackbone',
    model_name='convnext_tiny.fb_in1k',
    options=dict(ls_init_value=1.0),
    drop_path_rate=0.4,
)

original_convnext_small = dict(
    type='TimmBackbone',
    model_name='convnext_small.fb_in1k',
    options=dict(ls_init_value=1.0),
    drop_path_rate=0.6,
)

original_convnext_base = dict(
    type='TimmBackbone',
    model_name='convnext_base.fb_in1k',
    options=dict(ls_init_value=1.0),
    drop_path_rate=0.7,
)

drop_path_rates = dict(
    semantic_segmentation=dict(tiny=0.4, small=0.3, base=0.4),
    classification=dict(tiny=0.1, small=0.4, base=0.5),
)

contestants = dict(
    original_convnext_tiny=dict(family='original', mixer='convnext', scale='tiny'),
    original_convnext_small=dict(family='original', mixer='convnext', scale='small'),
    original_convnext_base=dict(family='original', mixer='convnext', scale='base'),
)
