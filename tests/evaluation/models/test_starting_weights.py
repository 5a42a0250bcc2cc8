"""All sources of starting weights are found, checked, loaded and recorded."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import PretrainedInit
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from evaluation.config.config_files import read_config
from evaluation.config.overrides import merge_options
from evaluation.engine.starting_point import set_starting_point
from evaluation.models import model_weights
from evaluation.models.model_weights import forget_pretrained, pretrained_parts, starting_weights
from evaluation.sweep.runs import Digests, start_of
from evaluation.utils.errors import UserError, quiet
from tests.variants import ROOT

pytestmark = pytest.mark.habits

DIMS = [8, 16, 32, 64]
TINY = {
    'model.backbone.dims': DIMS,
    'model.backbone.depths': [1, 1, 1, 1],
    'model.backbone.mixer.num_heads': [1, 1, 1, 1],
    'model.neck.in_channels': DIMS,
}
RANDOM = dict(type='Xavier', layer='Conv2d')


def load(file, **more):
    return dict(type='Pretrained', checkpoint=str(file), **more)


@pytest.fixture
def cfg(tmp_path):
    """Return the config of a detector that is small enough to be built quickly."""
    config = read_config(str(ROOT / 'configs/demo/mask_rcnn_swin_micro.py'))
    merge_options(config, TINY)
    config.update(checkpoint_key=None, work_dir=str(tmp_path / 'work'))
    return config


def build(config, seed):
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return MODELS.build(config.model)


@pytest.fixture
def detector(cfg, tmp_path):
    """Save a detector's weights; return the file and the weights."""
    weights = build(cfg, seed=1).state_dict()
    torch.save({'state_dict': weights}, tmp_path / 'detector.pth')
    return tmp_path / 'detector.pth', weights


@pytest.fixture
def initialized(monkeypatch):
    """Return a function that gives the state dict at the start of a training, and the log."""
    logged = []
    monkeypatch.setattr(model_weights, 'print_log', lambda message, logger: logged.append(message))

    def initialize(config):
        set_starting_point(config, None, None)
        model = build(config, seed=2)
        with quiet():
            model.init_weights()
        return model.state_dict(), '\n'.join(logged)

    return initialize


def equal(state, weights, start):
    names = [name for name in weights if name.startswith(start)]
    return all(torch.equal(state[name], weights[name]) for name in names)


class TestInitCfg:
    def test_whole_model(self, cfg, detector, initialized):
        file, weights = detector
        cfg.model.init_cfg = load(file)
        state, log = initialized(cfg)
        assert equal(state, weights, '')
        assert starting_weights(cfg) == str(file)
        assert log.count('(100.0%') == 2

    @pytest.mark.parametrize('kind', [dict, list])
    @pytest.mark.parametrize('place', ['neck', 'rpn_head', 'roi_head.bbox_head', 'roi_head'])
    def test_part(self, cfg, detector, initialized, place, kind):
        """A list also has a random initializer, as in heads."""
        file, weights = detector
        wish = load(file, prefix=place)
        holder = cfg.model
        for name in place.split('.'):
            holder = holder[name]
        holder.init_cfg = [RANDOM, wish] if kind is list else wish
        state, log = initialized(cfg)
        assert equal(state, weights, f'{place}.')
        assert not equal(state, weights, 'backbone.')
        assert starting_weights(cfg) == f'{file} ({place})'
        assert '(100.0%' in log

    def test_several_checkpoints(self, cfg, detector, tmp_path, initialized):
        file, weights = detector
        torch.save({n: v + 1 for n, v in weights.items()}, tmp_path / 'other.pth')
        cfg.model.backbone.init_cfg = load(file)
        cfg.model.neck.init_cfg = load(tmp_path / 'other.pth', prefix='neck.')
        state, _ = initialized(cfg)
        assert equal(state, weights, 'backbone.')
        assert torch.equal(
            state['neck.fpn_convs.0.conv.bias'], weights['neck.fpn_convs.0.conv.bias'] + 1
        )
        assert starting_weights(cfg) == f'{file} (backbone), {tmp_path}/other.pth (neck)'

    def test_initializer_as_a_class(self, cfg, detector, initialized):
        file, weights = detector
        cfg.model.init_cfg = dict(type=PretrainedInit, checkpoint=str(file))
        state, _ = initialized(cfg)
        assert equal(state, weights, '')
        assert starting_weights(cfg) == str(file)

    def test_whole_model_is_loaded_after_its_parts(self, cfg, detector, initialized):
        """A part with an initializer must not overwrite weights that were loaded for the whole model."""
        file, weights = detector
        cfg.model.init_cfg = load(file)
        cfg.model.neck.init_cfg = dict(type='Constant', layer='Conv2d', val=3.0)
        state, _ = initialized(cfg)
        assert equal(state, weights, 'neck.')

    @pytest.mark.parametrize(
        'init_cfg', [RANDOM, [RANDOM, dict(type='Constant', val=1, layer='BatchNorm2d')], None, []]
    )
    def test_random_initialization_is_from_scratch(self, cfg, init_cfg):
        cfg.model.neck.init_cfg = init_cfg
        cfg.model.init_cfg = init_cfg
        set_starting_point(cfg, None, None)
        assert starting_weights(cfg) == 'scratch'

    def test_override(self):
        override = [dict(name='fc', **load('a.pth'))]
        model = dict(neck=dict(init_cfg=dict(RANDOM, override=override)))
        assert [part.place for part in pretrained_parts(model)] == ['neck.fc']
        forget_pretrained(model)
        assert model == dict(neck=dict(init_cfg=dict(RANDOM, override=None)))

    def test_weights_loaded_by_timm(self):
        backbone = dict(type='TIMMBackbone', model_name='resnet50', pretrained=True)
        assert starting_weights(Config(dict(model=dict(backbone=backbone)))) == 'timm://resnet50'


class TestChecks:
    """Errors before the start."""

    def test_missing_file(self, cfg):
        cfg.model.roi_head.bbox_head.init_cfg = load('nowhere.pth', prefix='roi_head.bbox_head')
        with pytest.raises(UserError, match=r'nowhere\.pth'):
            set_starting_point(cfg, None, None)

    def test_part_without_a_prefix(self, cfg, detector):
        cfg.model.neck.init_cfg = load(detector[0])
        with pytest.raises(UserError, match=r'no weights that fit FPN, .*; set init_cfg\.prefix'):
            set_starting_point(cfg, None, None)

    def test_different_backbone(self, cfg, detector):
        cfg.model.backbone.dims = [16, 32, 64, 128]
        cfg.model.neck.in_channels = [16, 32, 64, 128]
        cfg.model.init_cfg = load(detector[0])
        with pytest.raises(UserError, match='of the parameters fit this backbone'):
            set_starting_point(cfg, None, None)

    @pytest.mark.parametrize('wish', [None, 'a.pth'])
    def test_backbone_that_loads_nothing(self, cfg, detector, wish):
        """mmengine skips modules that do not derive from its base class."""
        cfg.model.backbone = dict(type=nn.Identity, init_cfg=load(detector[0]))
        with pytest.raises(UserError, match='has no init_weights, so nothing would be loaded'):
            set_starting_point(cfg, wish, None)

    def test_conflict_with_pretrained(self, cfg, detector):
        cfg.model.init_cfg = load(detector[0])
        with pytest.raises(
            UserError, match=r'--pretrained a\.pth and model\.init_cfg .* both set the backbone'
        ):
            set_starting_point(cfg, 'a.pth', None)


def test_resumed_training_needs_no_starting_weights(cfg):
    cfg.model.init_cfg = load('gone.pth')
    cfg.model.backbone.init_cfg = load('gone.pth')
    cfg.model.neck.init_cfg = [RANDOM, load('gone.pth')]
    forget_pretrained(cfg.model)
    assert not pretrained_parts(cfg.model)
    assert cfg.model.neck.init_cfg == [RANDOM]


def test_sweeps_identify_runs_by_all_starting_weights(cfg, detector, tmp_path):
    file, _ = detector
    alone = start_of(cfg, str(file), Digests())
    cfg.model.neck.init_cfg = load(file, prefix='neck')
    assert start_of(cfg, str(file), Digests()) == ('detector.pth (backbone, neck)', alone[1])
    (tmp_path / 'other.pth').write_bytes(b'another file')
    cfg.model.neck.init_cfg = load(tmp_path / 'other.pth', prefix='neck')
    assert start_of(cfg, str(file), Digests())[1] not in (alone[1], None)
