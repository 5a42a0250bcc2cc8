"""Subjects of the benchmark: models of the suite, and peers of timm."""

import pytest
import timm
import torch
from torch import nn

from evaluation.benchmark.passes import Size, random_images, tensors_of
from evaluation.benchmark.subjects import (
    ConfigSubject,
    PeerSubject,
    WholeModel,
    common_shape,
    count_cost,
    row_names,
)
from evaluation.engine.experiment import read_config
from evaluation.models.complexity import complexity_of_config
from evaluation.models.heads import run_parts
from evaluation.models.operator_flops import count_flops
from evaluation.utils.errors import UserError
from evaluation.utils.meta_device import build_without_values, without_values
from tests.variants import ROOT


class Odd(nn.Module):
    """A convolution, a linear layer used twice under two names, and an operator without a formula."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.first = nn.Linear(8, 8, bias=False)
        self.second = self.first
        self.register_buffer('offset', torch.ones(8))

    def forward(self, images):
        maps = self.convolution(images).permute(0, 2, 3, 1)
        return torch.special.bessel_j0(self.second(self.first(maps)) + self.offset)


def test_counts_by_hand():
    cost = count_cost(Odd(), height=10, width=16)
    assert cost.parameters == 8 * 3 * 9 + 8 + 8 * 8
    assert cost.flops == 5 * 8 * (8 * 3 * 9) + 2 * (5 * 8) * 8 * 8
    assert cost.uncounted_operators == ('aten::special_bessel_j0',)


def test_counting_does_not_change_the_module():
    module = Odd().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count_cost(module, height=8, width=8)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_copy_without_values():
    module = Odd()
    module.convolution.weight.requires_grad_(False)
    copied = without_values(module)
    assert copied.first is copied.second
    assert {tensor.device.type for tensor in copied.state_dict().values()} == {'meta'}
    flags = {name: parameter.requires_grad for name, parameter in copied.named_parameters()}
    assert flags == {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    assert {tensor.device.type for tensor in module.state_dict().values()} == {'cpu'}


SIZE = Size(batch=1, height=64, width=96)
LEAVES = ('configs/demo/mask_rcnn_convnext_micro.py', 'configs/demo/upernet_convnext_micro.py')


def subject(leaf, backbone_alone):
    cfg = read_config(str(ROOT / leaf))
    return ConfigSubject('toy', cfg.model, cfg.default_scope, backbone_alone)


@pytest.fixture(params=LEAVES)
def leaf(request):
    return request.param


class TestCost:
    def test_of_a_whole_model(self, leaf):
        cfg = read_config(str(ROOT / leaf))
        expected = complexity_of_config(cfg.model, cfg.default_scope, (64, 96))
        cost = subject(leaf, backbone_alone=False).cost(SIZE)
        assert (cost.parameters, cost.flops) == (expected.parameters, expected.flops)
        assert cost.uncounted_operators == ()

    def test_of_a_backbone_is_the_sum_of_its_parts(self, leaf):
        cfg = read_config(str(ROOT / leaf))
        parts = complexity_of_config(cfg.model, cfg.default_scope, (64, 96)).parts
        parts = [part for part in parts if part.name.startswith(('stem', 'stage', 'backbone'))]
        cost = subject(leaf, backbone_alone=True).cost(SIZE)
        assert cost.parameters == sum(part.parameters for part in parts)
        assert cost.flops == sum(part.flops for part in parts)

    @pytest.mark.parametrize('backbone_alone', [False, True])
    def test_of_an_image_that_is_too_small(self, leaf, backbone_alone):
        with pytest.raises(UserError, match=r'^toy does not run on 1 image of 31x64 .* at least 32$'):
            subject(leaf, backbone_alone).cost(Size(1, 31, 64))


class TestWholeModel:
    def test_every_image_costs_the_same(self, leaf):
        """The heads of a detector get the same number of regions per image for any batch size."""
        cfg = read_config(str(ROOT / leaf))
        model = build_without_values(cfg.model, cfg.default_scope).eval()
        totals = []
        for images in (1, 3):
            with torch.no_grad(), count_flops(model) as counter:
                WholeModel(model)(torch.empty(images, 3, 64, 96, device='meta'))
            totals.append(counter.total)
        assert totals[1] == 3 * totals[0]

    def test_gradients_reach_the_backbone_through_every_head(self, leaf):
        module = subject(leaf, backbone_alone=False).build(SIZE)
        parameter = next(module.model.backbone.parameters())
        with torch.enable_grad():
            outputs = run_parts(module.eval().model, random_images(SIZE, torch.device('cpu'), 0))
            assert len(outputs) == (1 if 'upernet' in leaf else 3)
            for output in outputs:
                loss = sum(tensor.mean() for tensor in tensors_of(output))
                (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True)
                assert gradient.abs().sum() > 0


class TestBuild:
    def test_a_backbone(self, leaf):
        module = subject(leaf, backbone_alone=True).build(SIZE)
        maps = module(random_images(SIZE, torch.device('cpu'), 0))
        assert [tuple(each.shape[2:]) for each in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]

    def test_weights_are_reproducible_and_the_random_state_is_kept(self):
        backbone = subject(LEAVES[1], backbone_alone=True)
        state = torch.get_rng_state()
        one, other = (backbone.build(SIZE).state_dict() for _ in range(2))
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert torch.equal(torch.get_rng_state(), state)

    def test_only_the_backbone_is_compiled(self, leaf):
        for backbone_alone in (False, True):
            built = subject(leaf, backbone_alone)
            module = built.build(SIZE)
            part = built.part_to_compile(module)
            assert type(part).__name__ == 'UnifiedBackbone'
            assert any(each is part for each in module.modules())


class TestKinds:
    @pytest.mark.parametrize(
        ('backbone_alone', 'message'), [(True, 'has no backbone'), (False, 'cannot be counted')]
    )
    def test_neither_a_detector_nor_a_segmentor(self, backbone_alone, message):
        with pytest.raises(UserError, match=message):
            ConfigSubject('toy', {'type': 'ResNet', 'depth': 50}, 'mmdet', backbone_alone)

    def test_different_standard_sizes(self):
        detector, segmentor = (subject(leaf, backbone_alone=True) for leaf in LEAVES)
        assert common_shape([detector, detector]) == (800, 1280)
        assert common_shape([segmentor]) == (512, 2048)
        with pytest.raises(UserError, match=r'800x1280 for toy, 512x2048 for toy.*--shape HEIGHT WIDTH'):
            common_shape([detector, segmentor])


def test_rows_are_named_after_their_files():
    assert row_names(['a/one.py', 'a/two.py', 'a/one.py']) == ['one', 'two', 'one']
    assert row_names(['a/one.py', 'b/one.py', 'a/two.py']) == ['a/one.py', 'b/one.py', 'two']


def test_whole_model_has_the_parameters_of_the_model():
    model = nn.Linear(1, 1)
    assert [name for name, _ in WholeModel(model).named_parameters()] == ['model.weight', 'model.bias']


CPU = torch.device('cpu')
SQUARE = Size(1, 224, 224)
ODD = Size(1, 100, 132)


class TestCostOfPeers:
    # Parameters and FLOPs of the classifiers: arXiv 2103.14030, table 1 (a); 2201.03545, table 1.
    @pytest.mark.parametrize(
        ('name', 'parameters', 'flops', 'features'),
        [('swin_tiny_patch4_window7_224', 28.3, 4.5, 768), ('convnext_tiny', 28.6, 4.5, 768)],
    )
    def test_of_published_networks(self, name, parameters, flops, features):
        peer = PeerSubject(f'timm:{name}')
        cost = peer.cost(SQUARE)
        classifier = features * 1000 + 1000
        assert round((cost.parameters + classifier) / 1e6, 1) == pytest.approx(parameters, abs=0.051)
        assert round(cost.flops / 1e9, 1) == flops
        assert cost.uncounted_operators == ()
        assert peer.note is None


class TestBuildOfPeers:
    @pytest.mark.parametrize('name', ['swin_s3_tiny_224', 'pvt_v2_b0', 'convnext_atto', 'test_resnet'])
    def test_feature_maps_at_an_odd_size(self, name):
        peer = PeerSubject(f'timm:{name}')
        assert peer.cost(ODD).flops > 0
        with torch.no_grad():
            maps = peer.build(ODD).eval()(random_images(ODD, CPU, 0))
        assert len(tensors_of(maps)) > 1
        assert peer.note is None

    def test_trunk_if_there_are_no_feature_maps(self, monkeypatch):
        create = timm.create_model

        def without_features(name, **options):
            if options.get('features_only'):
                raise RuntimeError('features_only is not implemented for this network')
            return create(name, **options)

        monkeypatch.setattr(timm, 'create_model', without_features)
        peer = PeerSubject('timm:resnet18')
        trunk = create('resnet18', num_classes=0)
        assert peer.cost(ODD).parameters == sum(each.numel() for each in trunk.parameters())
        with torch.no_grad():
            (output,) = tensors_of(peer.build(ODD).eval()(random_images(ODD, CPU, 0)))
        assert output.shape == (1, 512)
        assert 'without the classifier' in peer.note


class TestSizes:
    def test_error_names_the_next_supported_size(self, monkeypatch):
        monkeypatch.setattr('evaluation.benchmark.subjects.MULTIPLES', (128, 256))
        peer = PeerSubject('timm:halonet26t')
        message = '^timm:halonet26t does not accept 100x132 .*; use 256x256, the next multiples of 256$'
        with pytest.raises(UserError, match=message):
            peer.cost(ODD)
        assert peer.cost(Size(1, 256, 256)).flops > 0

    def test_no_supported_size(self, monkeypatch):
        monkeypatch.setattr('evaluation.benchmark.subjects.MULTIPLES', (4, 8))
        with pytest.raises(UserError, match='numbers up to 8 do not work either; remove it'):
            PeerSubject('timm:halonet26t').cost(ODD)

    def test_network_depends_on_the_size(self):
        peer = PeerSubject('timm:test_vit')
        assert peer.cost(Size(1, 64, 64)).flops < peer.cost(Size(1, 128, 128)).flops


class TestNames:
    def test_with_a_tag_of_weights(self):
        assert PeerSubject('timm:resnet50.a1_in1k').name == 'timm:resnet50.a1_in1k'

    @pytest.mark.parametrize('name', ['resnet50', 'timm:', 'torchvision:resnet50', 'timm'])
    def test_invalid_form(self, name):
        with pytest.raises(UserError, match='must have the form timm:NAME'):
            PeerSubject(name)

    @pytest.mark.parametrize(
        ('name', 'near'),
        [
            ('convnxt_tiny', 'did you mean convnext_tiny'),
            ('resnet50.a1_in1', 'did you mean resnet50.a1_in1k'),
            ('hf_hub:someone/something', 'has no such model'),
        ],
    )
    def test_unknown(self, name, near):
        with pytest.raises(UserError, match=near):
            PeerSubject(f'timm:{name}')
