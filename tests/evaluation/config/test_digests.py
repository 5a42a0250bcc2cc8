import pytest
from mmengine.config import Config

from evaluation.config.digests import LATER_EXEMPTIONS, config_sha256
from evaluation.config.overrides import merge_options
from evaluation.engine.experiment import read_config, set_data_root
from tests.variants import ROOT

LEAVES = sorted((ROOT / 'configs').rglob('*_micro.py'))


def digest(leaf, root=None, **overrides):
    cfg = read_config(str(leaf))
    merge_options(cfg, {name.replace('__', '.'): value for name, value in overrides.items()})
    if root:
        set_data_root(cfg, root)
    return config_sha256(cfg)


def test_every_leaf_has_a_unique_digest():
    assert len({digest(leaf) for leaf in LEAVES}) == len(LEAVES) > 20


@pytest.mark.parametrize('leaf', LEAVES[:1] + LEAVES[-1:], ids=lambda leaf: leaf.stem)
def test_paths_do_not_matter(leaf):
    assert digest(leaf, root='/some/where', train_dataloader__num_workers=7) == digest(leaf)


def test_trailing_slash_of_the_data_root_does_not_matter():
    """Nearly all configs of OpenMMLab have one."""

    def config(root):
        return Config(dict(data_root=root, a=dict(data_root=root), b=f'{root.rstrip("/")}/file.json'))

    assert len({config_sha256(config(root)) for root in ('data/coco', 'data/coco/', '/mnt/x/')}) == 1


@pytest.mark.parametrize(
    'change',
    [
        {'optim_wrapper__optimizer__lr': 0.5},
        {'train_dataloader__batch_size': 3},
        {'model__backbone__drop_path_rate': 0.3},
    ],
    ids=str,
)
def test_settings_matter(change):
    assert digest(LEAVES[0], **change) != digest(LEAVES[0])


def test_exemptions_of_later_mixers_do_not_matter():
    """Configs that were written before these mixers are the same experiments."""
    before, without, decayed = (read_config(str(LEAVES[0])) for _ in range(3))
    for name in LATER_EXEMPTIONS:
        del without.optim_wrapper.paramwise_cfg.custom_keys[name]
    assert config_sha256(without) == config_sha256(before)
    decayed.optim_wrapper.paramwise_cfg.custom_keys.rpb.decay_mult = 1.0
    assert config_sha256(decayed) != config_sha256(before)


def test_order_of_settings_does_not_matter():
    cfg = read_config(str(LEAVES[0]))
    backwards = Config(dict(reversed(cfg.to_dict().items())))
    assert config_sha256(backwards) == config_sha256(cfg)
