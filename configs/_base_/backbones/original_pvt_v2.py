"""Pyramid Vision Transformer v2 (Wang et al., arXiv 2106.13797) as published, by timm.

B2 has the parameters and FLOPs of `pvt_tiny`, with which it is compared. `drop_path_rate` is that of the
published Mask R-CNN and Semantic FPN.
"""

original_pvt_v2_b2 = dict(type='TimmBackbone', model_name='pvt_v2_b2.in1k', drop_path_rate=0.1)

contestants = dict(original_pvt_v2_b2=dict(family='original', mixer='pvt', scale='tiny'))
