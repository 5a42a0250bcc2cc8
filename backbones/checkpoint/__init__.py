"""Read checkpoints safely, translate them from released names, and load them with a report."""

from backbones.checkpoint.checkpoint_files import local_copy, read_checkpoint
from backbones.checkpoint.load_report import LoadReport, compare
from backbones.checkpoint.names import released_name, released_weights
from backbones.checkpoint.openmmlab import install_safe_loading
from backbones.checkpoint.pretrained import (
    fit_weights,
    in_module_names,
    load_fitting,
    load_pretrained,
)
from backbones.checkpoint.scales import recognize
from backbones.checkpoint.state_dicts import WEIGHT_KEYS, select_prefix, weights_of
from backbones.checkpoint.translation import DERIVED, translate_state_dict
from backbones.checkpoint.wrappers import in_own_names

__all__ = [
    'DERIVED',
    'WEIGHT_KEYS',
    'LoadReport',
    'compare',
    'fit_weights',
    'in_module_names',
    'in_own_names',
    'install_safe_loading',
    'load_fitting',
    'load_pretrained',
    'local_copy',
    'read_checkpoint',
    'recognize',
    'released_name',
    'released_weights',
    'select_prefix',
    'translate_state_dict',
    'weights_of',
]
