"""The variants under test, every mixer at every scale, read from the configs that users run."""

from pathlib import Path

from mmengine.config import Config

from backbones import MIXERS, PAPER_MIXERS
from evaluation.config.config_files import read_config
from evaluation.config.contestants import use_backbone

ROOT = Path(__file__).parent.parent
SCALES = ('micro', 'tiny', 'small', 'base')
PAGES = sorted((ROOT / 'configs/_base_/backbones').glob('*.py'))


def _variants() -> dict[str, dict]:
    found = {}
    for page in PAGES:
        for name, value in Config.fromfile(page).items():
            if isinstance(value, dict) and value.get('type') == 'UnifiedBackbone':
                found[name] = value.to_dict()
    return found


VARIANTS = _variants()
# The 20 variants that were released.
RELEASED_VARIANTS = [f'{mixer}_{scale}' for mixer in PAPER_MIXERS for scale in SCALES]
LATER_MIXERS = [mixer for mixer in MIXERS if mixer not in PAPER_MIXERS]
MICRO = {name: value for name, value in VARIANTS.items() if name.endswith('_micro')}


def classifier_config(backbone: dict) -> dict:
    """Return the config of the ImageNet classifier for a backbone, without drop path."""
    return {**backbone, 'type': 'UnifiedClassifier', 'drop_path_rate': 0.0}


def read_leaf(leaf: str) -> Config:
    """Return the config of a leaf; later mixers have leaves at one scale, else `--backbone` is used.

    Args:
        leaf: name, with folder, such as `upernet_nat_micro` or `demo/upernet_nat_micro`.
    """
    file = ROOT / f'configs/{leaf}.py'
    if file.is_file():
        return read_config(str(file))
    task = next(task for task in ('mask_rcnn', 'upernet', 'imagenet') if f'/{task}_' in f'/{leaf}')
    start, variant = leaf[: leaf.index(task)], leaf.partition(f'{task}_')[2]
    usual = ROOT / f'configs/{start}{task}_swin_{variant.rpartition("_")[2]}.py'
    return use_backbone(read_config(str(usual)), variant)
