"""ResNet-50 (He et al., arXiv 1512.03385) as defined in mmdet and mmseg: the baseline of both tasks."""

original_resnet50 = dict(
    type='ResNet',
    depth=50,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    frozen_stages=1,
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=True,
    style='pytorch',
)

contestants = dict(original_resnet50=dict(family='original'))
