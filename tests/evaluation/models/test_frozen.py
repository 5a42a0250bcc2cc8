"""Frozen backbones: what trains and what stays, with every mixer, over real training steps."""

import copy

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from backbones import MIXERS
from evaluation.config.contestants import open_config
from evaluation.config.protocols import ProtocolOptions
from evaluation.models.classifier import ImageClassifier
from evaluation.models.frozen import (
    freeze_backbone,
    head_names,
    trainable_of_config,
    trainable_parameters,
)
from tests.commands import ROOT
from tests.refusals import refusal

PAGES = ROOT / 'configs/_base_'
NETWORK = 'tests.networks:Pyramid'
SIDE = 64
CLASSES = 8


def read(backbone, protocol=None, page='demo_upernet'):
    return open_config(str(PAGES / f'{page}.py'), backbone, {}, ProtocolOptions(protocol))[0]


def built(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model


def batch():
    labels = torch.arange(SIDE * SIDE).reshape(1, SIDE, SIDE) % CLASSES
    samples = [
        SegDataSample(metainfo=dict(img_shape=(SIDE, SIDE)), gt_sem_seg=PixelData(data=labels))
        for _ in range(2)
    ]
    return {'inputs': [*torch.randint(0, 256, (2, 3, SIDE, SIDE)).byte()], 'data_samples': samples}


def train(model, cfg, steps=2):
    """Train as the runner does, with the optimizer of the config."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        wrapper = Runner.build_optim_wrapper(type('', (), {'model': model})(), cfg.optim_wrapper)
    for group in wrapper.optimizer.param_groups:
        group['lr'] = 1e-2
    for _ in range(steps):
        model.train()
        model.train_step(batch(), wrapper)
    return wrapper


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, module):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    'backbone', [*(f'{mixer}_micro(depths=[1,1,1,1])' for mixer in MIXERS), NETWORK]
)
def test_only_the_head_changes(backbone):
    cfg = read(backbone, 'linear')
    model = built(cfg)
    freeze_backbone(model, 'linear')
    before = state(model.backbone), state(model.decode_head)
    train(model, cfg)
    assert not changed(before[0], model.backbone)
    assert {'conv_seg.weight', 'norm.running_mean'} <= changed(before[1], model.decode_head)
    assert not any(module.training for module in model.backbone.modules())
    assert model.decode_head.training
    channels = sum(cfg.model.decode_head.in_channels)
    assert trainable_parameters(model) == 2 * channels + CLASSES * (channels + 1)


def test_without_it_parameters_and_batch_norms_of_the_backbone_change():
    """The test above would notice."""
    cfg = read(NETWORK)
    model = built(cfg)
    before = state(model.backbone)
    train(model, cfg)
    assert {'stem.1.running_mean', 'stem.0.weight', 'downs.2.weight'} <= changed(before, model.backbone)


@pytest.mark.parametrize('constructor', [None, 'ReleasedDecayConstructor', 'LayerDecayConstructor'])
def test_optimizer_has_no_state_for_the_backbone(constructor):
    cfg = read('convnext_micro', 'frozen')
    if constructor:
        cfg.optim_wrapper.constructor = constructor
        cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 0.9
    model = built(cfg)
    freeze_backbone(model, 'frozen')
    before = state(model.backbone)
    wrapper = train(model, cfg, steps=1)
    assert not changed(before, model.backbone)
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in wrapper.optimizer.state} == trained


class TestGraph:
    @pytest.fixture
    def models(self):
        """The same network, with drop path, as it is and frozen."""
        model = built(read('swin_micro(drop_path_rate=0.9)'))
        frozen = copy.deepcopy(model)
        freeze_backbone(frozen, 'frozen')
        return model.train(), frozen.train()

    def test_nothing_is_kept_for_a_backward_pass(self, models):
        saved = []
        for model in models:
            with torch.autograd.graph.saved_tensors_hooks(
                lambda tensor: saved[-1].append(tensor), lambda tensor: tensor
            ):
                saved.append([])
                maps = model.backbone(torch.rand(1, 3, SIDE, SIDE))
            assert all(each.requires_grad == (model is models[0]) for each in maps)
        assert len(saved[0]) > 0
        assert not saved[1]

    def test_no_drop_path(self, models):
        x = torch.rand(1, 3, SIDE, SIDE)
        for model, is_frozen in zip(models, (False, True), strict=True):
            pairs = zip(model.backbone(x), model.backbone(x), strict=True)
            assert all(torch.equal(*pair) for pair in pairs) == is_frozen

    def test_copies_stay_frozen(self, models):
        copied = copy.deepcopy(models[1]).train()
        assert not any(module.training for module in copied.backbone.modules())
        assert copied.backbone.state_dict().keys() == models[0].backbone.state_dict().keys()
        nn.init.constant_(next(copied.backbone.parameters()), 7)
        assert not (next(models[1].backbone.parameters()) == 7).all()

    def test_recomputation_in_the_backward_pass(self):
        cfg = read('convnext_micro(with_cp=True)', 'frozen')
        model = built(cfg)
        freeze_backbone(model, 'frozen')
        before = state(model.backbone)
        train(model, cfg, steps=1)
        assert not changed(before, model.backbone)

    def test_compiled_forward(self):
        frozen = built(read(NETWORK))
        freeze_backbone(frozen, 'frozen')
        x = torch.rand(1, 3, SIDE, SIDE)
        expected = frozen.backbone(x)
        frozen.backbone.forward = torch.compile(frozen.backbone.forward, backend='aot_eager')
        maps = frozen.backbone(x)
        assert not any(each.requires_grad for each in maps)
        for one, other in zip(expected, maps, strict=True):
            torch.testing.assert_close(one, other)


class TestDistributed:
    @pytest.fixture
    def one_process(self, tmp_path):
        dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
        yield
        dist.destroy_process_group()

    def test_only_parameters_that_train_are_exchanged(self, one_process):
        cfg = read(NETWORK, 'frozen')
        model = built(cfg)
        freeze_backbone(model, 'frozen')
        before = state(model.backbone)
        wrapped = MMDistributedDataParallel(model)
        exchanged = {name for name, p in wrapped.named_parameters() if p.requires_grad}
        assert exchanged
        assert not any('backbone' in name for name in exchanged)
        # A parameter that gets no gradient although it requires one would end the second step.
        train(wrapped, cfg)
        assert not changed(before, model.backbone)

    def test_synchronized_batch_norms_stay_in_eval_mode(self):
        model = built(read(NETWORK))
        freeze_backbone(model, 'frozen')
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model).train()
        kinds = {type(module) for module in model.backbone.modules() if not module.training}
        assert nn.SyncBatchNorm in kinds
        assert not any(module.training for module in model.backbone.modules())
        assert trainable_parameters(model.backbone) == 0


class OwnClassifier(nn.Module):
    def __init__(self, name='head'):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(2))
        self.add_module(name, nn.Linear(4, CLASSES))
        self.name = name

    def forward(self, x):
        return self.get_submodule(self.name)(self.body(x).mean(2))


class TestClassifiers:
    @pytest.mark.parametrize(
        ('network', 'heads'),
        [
            ('pool_micro', ('conv_head', 'head')),
            ('timm:resnet10t', ('network.fc',)),
            ('timm:test_vit', ('network.head',)),
        ],
    )
    def test_head_trains(self, network, heads):
        cfg = read(network, 'frozen', 'demo_imagenet')
        self.check(built(cfg), heads)

    def test_network_of_a_user(self):
        self.check(ImageClassifier(dict(type=OwnClassifier)), ('head',))

    def check(self, model, heads):
        freeze_backbone(model, 'frozen')
        assert head_names(model.backbone) == heads
        before = state(model.backbone)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
        for _ in range(2):
            model.train()
            model.loss(torch.rand(4, 3, SIDE, SIDE), torch.arange(4)).backward()
            optimizer.step()
            optimizer.zero_grad()
        moved = changed(before, model.backbone)
        assert moved
        assert all(name.startswith(heads) for name in moved)
        in_training = {name for name, module in model.backbone.named_modules() if module.training}
        assert all(name.startswith(heads) for name in in_training)

    def test_unknown_head(self):
        model = ImageClassifier(dict(type=OwnClassifier, name='last'))
        assert 'OwnClassifier has no module named conv_head or head' in refusal(
            freeze_backbone, model, 'frozen'
        )


class TestPyramidOfAPlainTransformer:
    NAME = 'timm:test_vit(pyramid_channels=16)'

    def test_it_trains(self):
        model = built(read(self.NAME))
        before = state(model.backbone)
        cfg = Config(dict(default_scope='mmseg', optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0))))
        freeze_backbone(model, 'frozen')
        train(model, cfg, steps=1)
        moved = changed(before, model.backbone)
        assert moved
        assert all(name.startswith('pyramid.') for name in moved)

    def test_linear_probe_is_refused(self):
        model = built(read(self.NAME, 'linear'))
        assert 'would train its feature pyramid' in refusal(freeze_backbone, model, 'linear')


@pytest.mark.parametrize('protocol', [None, 'frozen', 'linear'])
def test_parameters_that_train_are_counted_without_values(protocol):
    cfg = read(NETWORK, protocol)
    model = built(cfg)
    parts = list(model.parameters()) if protocol is None else [*model.decode_head.parameters()]
    parts += [*model.auxiliary_head.parameters()] if protocol == 'frozen' else []
    found = trainable_of_config(cfg.model, cfg.default_scope, protocol)
    assert found == sum(parameter.numel() for parameter in parts)


def test_linear_protocol_of_another_head():
    said = refusal(freeze_backbone, built(read(NETWORK)), 'linear')
    assert 'states the protocol linear, but the model has no LinearHead' in said


def test_model_without_a_backbone():
    assert 'Linear has no backbone to freeze' in refusal(freeze_backbone, nn.Linear(1, 1), 'frozen')
