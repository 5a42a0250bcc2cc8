"""The starting point of a training is found and checked before it begins."""

import pytest
import torch
import torchvision
from mmengine.registry import MODELS, DefaultScope
from torchvision.models import ResNet50_Weights

from evaluation.engine.experiment import read_config
from evaluation.engine.pretrained_weights import find_pretrained
from evaluation.engine.starting_point import set_starting_point
from evaluation.models.model_weights import starting_weights
from evaluation.utils.errors import UserError
from evaluation.utils.meta_device import build_without_values
from tests.released import classifier_shapes, filled
from tests.variants import ROOT


@pytest.fixture
def cfg(tmp_path):
    """Read a config as the commands do."""

    def read(name):
        config = read_config(str(ROOT / f'configs/{name}.py'))
        config.update(checkpoint_key=None, work_dir=str(tmp_path / 'work'))
        return config

    return read


class TestBaseline:
    """ResNet-50 has its own weight names and loading code, and is checked like the other backbones."""

    @pytest.mark.parametrize('task', ['mask_rcnn', 'upernet'])
    def test_loads_the_weights_of_torchvision(self, cfg, task, tmp_path):
        weights = torchvision.models.resnet50().state_dict()
        torch.save(weights, tmp_path / 'resnet50.pth')
        config = cfg(f'{task}_r50')
        set_starting_point(config, str(tmp_path / 'resnet50.pth'), None)
        with DefaultScope.overwrite_default_scope(config.default_scope):
            backbone = MODELS.build(config.model.backbone)
        backbone.init_weights()
        state = backbone.state_dict()
        assert all(torch.equal(state[name], weights[name]) for name in state)

    def test_rejects_another_network(self, cfg, tmp_path):
        torch.save(torchvision.models.resnet18().state_dict(), tmp_path / 'resnet18.pth')
        with pytest.raises(UserError, match=r'resnet18\.pth: only .* of the parameters fit ResNet'):
            set_starting_point(cfg('mask_rcnn_r50'), str(tmp_path / 'resnet18.pth'), None)

    def test_init_cfg_of_the_config_is_checked(self, cfg, tmp_path):
        """mmengine would load only the weights that fit, even if none do."""
        torch.save({'model': filled(classifier_shapes('swin_micro'))}, tmp_path / 'swin.pth')
        config = cfg('upernet_r50')
        config.model.backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'swin.pth')}
        with pytest.raises(UserError, match=r'only 0\.0% of .* the weights are for swin_micro'):
            set_starting_point(config, None, None)

    def test_initialization_by_layer_is_from_scratch(self, cfg):
        config = cfg('mask_rcnn_r50')
        config.model.backbone.init_cfg = [{'type': 'Kaiming', 'layer': 'Conv2d'}]
        set_starting_point(config, None, None)
        assert starting_weights(config) == 'scratch'

    def test_names_of_model_zoos(self, cfg, monkeypatch, tmp_path):
        reached = []

        def download(url, path):
            reached.append(url)
            torch.save(torchvision.models.resnet50().state_dict(), path)

        monkeypatch.setattr('backbones.checkpoint.checkpoint_files._download', download)
        monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
        config = cfg('mask_rcnn_r50')
        config.model.backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': 'torchvision://resnet50'}
        set_starting_point(config, None, None)
        assert reached == [ResNet50_Weights.IMAGENET1K_V1.url]
        config.model.backbone.init_cfg.checkpoint = 'torchvision://resnet51'
        with pytest.raises(UserError, match='torchvision:// has no resnet51'):
            set_starting_point(config, None, None)

    def test_released_weights_are_those_of_torchvision(self, cfg):
        assert find_pretrained('released', cfg('mask_rcnn_r50')).startswith(
            'https://download.pytorch.org/'
        )


@pytest.mark.parametrize('task', ['mask_rcnn', 'upernet'])
def test_building_without_values_does_not_change_the_config(cfg, task):
    """The config is stored in checkpoints, and compared whenever a training is resumed."""
    config = cfg(f'{task}_swin_micro')
    before = config.pretty_text
    build_without_values(config.model, config.default_scope)
    build_without_values(config.model.backbone, config.default_scope)
    assert config.pretty_text == before


class TestInitCfg:
    def test_is_checked(self, cfg, tmp_path):
        torch.save({'model': filled(classifier_shapes('swin_micro'))}, tmp_path / 'swin.pth')
        config = cfg('mask_rcnn_halo_micro')
        config.model.backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'swin.pth')}
        with pytest.raises(UserError, match=r'halo_micro\); the weights are for swin_micro'):
            set_starting_point(config, None, None)

    def test_prefix(self, cfg, tmp_path):
        weights = {f'net.{n}': v for n, v in filled(classifier_shapes('pvt_micro')).items()}
        torch.save({'ema': weights, 'model': {'net.x': torch.ones(1)}}, tmp_path / 'a.pth')
        config = cfg('mask_rcnn_pvt_micro')
        config.model.backbone.init_cfg = {
            'type': 'Pretrained', 'checkpoint': str(tmp_path / 'a.pth'), 'prefix': 'net', 'key': 'ema'
        }  # fmt: skip
        set_starting_point(config, None, None)
        config.model.backbone.init_cfg.prefix = 'backbone'
        with pytest.raises(UserError, match=r"a\.pth has nothing under the prefix 'backbone\.'"):
            set_starting_point(config, None, None)
