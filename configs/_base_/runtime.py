"""Settings shared by all tasks."""

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# This module keeps its name in all versions; the modules that it imports may move.
custom_imports = dict(imports=['evaluation.registration'])
log_level = 'INFO'
load_from = None
resume = False

# For `optim_wrapper.paramwise_cfg`: names of relative positions, position embeddings and state spaces.
no_decay_of_norms_and_positions = dict(
    norm_decay_mult=0.0,
    custom_keys=dict(
        relative_position_bias_table=dict(decay_mult=0.0),
        height_rel=dict(decay_mult=0.0),
        width_rel=dict(decay_mult=0.0),
        pos_embed=dict(decay_mult=0.0),
        # Neighborhood attention.
        rpb=dict(decay_mult=0.0),
        # Selective scan: decay rates and skip connection.
        A_logs=dict(decay_mult=0.0),
        Ds=dict(decay_mult=0.0),
        # Agent attention.
        an_bias=dict(decay_mult=0.0),
        na_bias=dict(decay_mult=0.0),
        ah_bias=dict(decay_mult=0.0),
        aw_bias=dict(decay_mult=0.0),
        ha_bias=dict(decay_mult=0.0),
        wa_bias=dict(decay_mult=0.0),
    ),
)
