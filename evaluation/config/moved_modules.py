"""Names that modules had in `custom_imports` of earlier versions, which stored configs still have."""

REGISTRATION = 'evaluation.registration'

# What the recipe pages imported before `evaluation.registration`, by their `default_scope`. They are
# part of version 1 of the digest of a config, so leave them as they are.
IMPORTS_OF_VERSION_1 = {
    'mmdet': (
        'backbones',
        'evaluation.hooks.checkpoint',
        'evaluation.hooks.instance_drawing',
        'evaluation.metrics.instances',
        'evaluation.instance_tta',
        'evaluation.data.loading',
        'evaluation.data.reproducible_loading',
        'evaluation.hooks.result',
    ),
    'mmseg': (
        'backbones',
        'evaluation.hooks.checkpoint',
        'evaluation.hooks.segmentation_drawing',
        'evaluation.data.loading',
        'evaluation.data.reproducible_loading',
        'evaluation.hooks.result',
        'evaluation.data.segmentation_map',
        'evaluation.metrics.segmentation',
        'evaluation.segmentation_tta',
    ),
    'mmengine': (
        'backbones',
        'evaluation.hooks.checkpoint',
        'evaluation.classification',
        'evaluation.data.loading',
        'evaluation.data.reproducible_loading',
        'evaluation.hooks.result',
    ),
}
_EARLIEST = (
    'evaluation.checkpoint_hook',
    'evaluation.instance_metric',
    'evaluation.loading',
    'evaluation.result_hook',
    'evaluation.segmentation_map',
    'evaluation.segmentation_metric',
)
_MOVED = frozenset(_EARLIEST).union(*IMPORTS_OF_VERSION_1.values()) - {'backbones'}


def current_name(module: str) -> str:
    """Return the module that registers today what `module` registered when a config was written."""
    return REGISTRATION if module in _MOVED else module
