import pytest
import timm
import torch

from evaluation.benchmark.passes import Size, random_images, tensors_of
from evaluation.benchmark.peers import PeerSubject
from evaluation.utils.errors import UserError

CPU = torch.device('cpu')
SQUARE = Size(1, 224, 224)
ODD = Size(1, 100, 132)


class TestCost:
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


class TestBuild:
    @pytest.mark.parametrize('name', ['swin_s3_tiny_224', 'pvt_v2_b0', 'convnext_atto', 'test_resnet'])
    def test_feature_maps_at_an_odd_size(self, name):
        peer = PeerSubject(f'timm:{name}')
        assert peer.cost(ODD).flops > 0
        with torch.no_grad():
            maps = peer.build(ODD).eval()(random_images(ODD, CPU, 0))
        assert len(tensors_of(maps)) > 1
        assert peer.note is None

    def test_a_trunk_where_there_are_no_feature_maps(self, monkeypatch):
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
    def test_the_next_size_that_it_takes(self, monkeypatch):
        monkeypatch.setattr('evaluation.benchmark.peers.MULTIPLES', (128, 256))
        peer = PeerSubject('timm:halonet26t')
        message = (
            '^timm:halonet26t does not take 100x132 .*; it takes 256x256, the next multiples of 256$'
        )
        with pytest.raises(UserError, match=message):
            peer.cost(ODD)
        assert peer.cost(Size(1, 256, 256)).flops > 0

    def test_no_size_that_it_takes(self, monkeypatch):
        monkeypatch.setattr('evaluation.benchmark.peers.MULTIPLES', (4, 8))
        with pytest.raises(UserError, match='anything up to 8 near it; leave it out'):
            PeerSubject('timm:halonet26t').cost(ODD)

    def test_of_another_size_is_another_network(self):
        peer = PeerSubject('timm:test_vit')
        assert peer.cost(Size(1, 64, 64)).flops < peer.cost(Size(1, 128, 128)).flops


class TestNames:
    def test_with_a_tag_of_weights(self):
        assert PeerSubject('timm:resnet50.a1_in1k').name == 'timm:resnet50.a1_in1k'

    @pytest.mark.parametrize('name', ['resnet50', 'timm:', 'torchvision:resnet50', 'timm'])
    def test_of_another_form(self, name):
        with pytest.raises(UserError, match='has not the form timm:NAME'):
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
