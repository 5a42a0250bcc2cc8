"""The 20 variants under test, read from the configs that users run."""

from pathlib import Path

from mmengine.config import Config

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
MICRO = {name: value for name, value in VARIANTS.items() if name.endswith('_micro')}


def classifier_config(backbone: dict) -> dict:
    """Return the config of the ImageNet classifier for a backbone, without drop path."""
    return {**backbone, 'type': 'UnifiedClassifier', 'drop_path_rate': 0.0}
