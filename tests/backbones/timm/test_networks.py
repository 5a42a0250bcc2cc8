"""Networks of many families, at reduced size, as backbones."""

import pytest
import timm
import torch
from mmengine.registry import MODELS

from backbones import BackboneError, TimmBackbone
from backbones.timm.networks import SUGGESTED
from evaluation.models.operator_flops import count_flops

# Name and options that make the network small.
SMALL = {
    'byobnet': ('test_byobnet', {}),
    'cspnet': ('cspresnet50', {}),
    'convnext': ('test_convnext', {}),
    'convnext_v1': ('convnext_atto', {'depths': (1, 1, 2, 1)}),
    'convnextv2': ('convnextv2_atto', {'depths': (1, 1, 2, 1)}),
    'davit': ('davit_tiny', {'depths': (1, 1, 1, 1), 'embed_dims': (24, 48, 96, 192)}),
    'deit': ('deit_tiny_patch16_224', {'depth': 2}),
    'densenet': ('densenet121', {'block_config': (2, 2, 2, 2)}),
    'dla': ('dla46x_c', {}),
    'edgenext': ('edgenext_xx_small', {}),
    'efficientnet': ('test_efficientnet', {}),
    'efficientnet_lite': ('tf_efficientnet_lite0', {}),
    'efficientvit': ('efficientvit_b0', {}),
    'eva': ('eva02_tiny_patch14_224', {'depth': 2}),
    'dinov3': ('vit_small_patch16_dinov3', {'depth': 2}),
    'fasternet': ('fasternet_t0', {}),
    'fastvit': ('fastvit_t8', {'layers': (1, 1, 1, 1)}),
    'focalnet': ('focalnet_tiny_srf', {}),
    'ghostnet': ('ghostnet_050', {}),
    'hgnet': ('hgnetv2_b0', {}),
    'hrnet': ('hrnet_w18_small', {}),
    'inception_next': ('inception_next_atto', {}),
    'mambaout': ('test_mambaout', {}),
    'maxvit': ('test_maxvit', {}),
    'metaformer': ('poolformer_s12', {}),
    'caformer': ('caformer_s18', {}),
    'mobilenetv3': ('mobilenetv3_small_050', {}),
    'mobilenetv4': ('mobilenetv4_conv_small_050', {}),
    'mobilevit': ('mobilevit_xxs', {}),
    'mvitv2': ('mvitv2_tiny', {}),
    'nextvit': ('nextvit_small', {}),
    'nfnet': ('test_nfnet', {}),
    'pvt_v2': ('pvt_v2_b0', {'depths': (1, 1, 1, 1)}),
    'rdnet': ('rdnet_tiny', {}),
    'regnet': ('regnetx_002', {}),
    'repvit': ('repvit_m0_9', {}),
    'resnet': ('test_resnet', {}),
    'resnest': ('resnest14d', {}),
    'resnetv2': ('resnetv2_18', {}),
    'rexnet': ('rexnet_100', {}),
    'sam': ('samvit_base_patch16', {'depth': 2, 'embed_dim': 96, 'num_heads': 2}),
    'siglip': ('vit_base_patch16_siglip_224', {'depth': 2, 'embed_dim': 96, 'num_heads': 2}),
    'starnet': ('starnet_s1', {}),
    'swin': ('swin_tiny_patch4_window7_224', {'depths': (1, 2, 2, 1), 'embed_dim': 24}),
    'swin_v2': ('swinv2_tiny_window8_256', {'depths': (1, 1, 2, 1), 'embed_dim': 24}),
    'tiny_vit': ('tiny_vit_5m_224', {}),
    'twins': ('twins_pcpvt_small', {'depths': (1, 1, 1, 1)}),
    'vgg': ('vgg11_bn', {}),
    'vit': ('test_vit', {}),
    'clip': ('vit_base_patch32_clip_224', {'depth': 2, 'embed_dim': 96, 'num_heads': 2}),
    'dinov2': ('vit_small_patch14_reg4_dinov2', {'depth': 2}),
    'mae': ('vit_base_patch16_224', {'depth': 2, 'embed_dim': 96, 'num_heads': 2}),
    'xcit': ('xcit_nano_12_p16_224', {'depth': 2}),
}
# Refused, with the start of the reason.
REFUSED = {
    'beit_base_patch16_224': 'does not take images of any size',
    'cait_xxs24_224': 'does not take images of any size',
    'coat_tiny': 'does not take images of any size',
    'coatnet_pico_rw_224': 'does not take images of any size',
    'convit_tiny': 'does not take images of any size',
    'convmixer_768_32': 'has maps at stride 7 only',
    'crossvit_tiny_240': 'has maps at strides 12, 17',
    'efficientvit_m0': 'has maps at strides 16, 32, 64',
    'inception_v3': 'has maps of other sizes than its strides say',
    'levit_128s': 'has maps at strides 16, 32',
    'nest_tiny': 'has maps at strides 4, 8, 16',
    'sequencer2d_s': 'has maps at strides 7, 14',
    'visformer_tiny': 'has maps at strides 8, 16, 32',
}
STRIDES = (4, 8, 16, 32)
# Whole networks are not sums in the same order for one image and for two.
CLOSE = {'rtol': 1e-3, 'atol': 1e-3}


@pytest.fixture(scope='module', params=SMALL)
def backbone(request):
    """A small network of a family."""
    torch.manual_seed(0)
    name, options = SMALL[request.param]
    return MODELS.build(dict(type='TimmBackbone', model_name=name, options=options))


def test_families():
    assert len({timm.model_entrypoint(name).__module__ for name, _ in SMALL.values()}) >= 25
    assert len(SMALL) >= 40


@pytest.mark.parametrize('size', [(97, 131), (64, 64)])
def test_maps(backbone, size):
    with torch.no_grad():
        maps = backbone.eval()(torch.randn(1, 3, *size))
    expected = [
        (1, dim, *(-(-side // stride) for side in size))
        for dim, stride in zip(backbone.dims, STRIDES, strict=True)
    ]
    assert [tuple(each.shape) for each in maps] == expected
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in maps)
    assert all(each.isfinite().all() for each in maps)


def test_evaluation_repeats_and_does_not_mix_images(backbone):
    images = torch.randn(3, 3, 64, 96)
    backbone.eval()
    with torch.no_grad():
        maps, again, alone = backbone(images), backbone(images), backbone(images[1:2])
    for first, second, single in zip(maps, again, alone, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        torch.testing.assert_close(first[1:2], single, **CLOSE)


def test_every_parameter_gets_a_gradient(backbone):
    backbone.train().zero_grad()
    maps = backbone(torch.randn(2, 3, 64, 96))
    sum((each * torch.randn_like(each)).sum() for each in maps).backward()
    wanted = {name: p.grad for name, p in backbone.named_parameters() if p.requires_grad}
    assert [name for name, gradient in wanted.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in wanted.values())


def test_flops_are_counted(backbone):
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), count_flops(backbone.eval()) as counter:
        backbone(images)
    assert counter.total > 0
    assert not counter.uncounted


@pytest.mark.parametrize('name', REFUSED)
def test_networks_that_cannot_serve(name):
    with pytest.raises(BackboneError, match=f'timm:{name} {REFUSED[name]}') as caught:
        TimmBackbone(name)
    assert 'networks that work are, for example, ' in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', SUGGESTED)
def test_suggested_networks_serve(name):
    with torch.device('meta'):
        maps = TimmBackbone(name).eval()(torch.randn(1, 3, 97, 131))
    assert [tuple(each.shape[2:]) for each in maps] == [(25, 33), (13, 17), (7, 9), (4, 5)]


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('convnext_tinny', 'timm has no model convnext_tinny; did you mean convnext_tiny'),
        ('swin_tiny', 'timm has no model swin_tiny; did you mean swin_tiny_patch4_window7_224?'),
        ('resnet50.a9_in1k', 'timm has no weights resnet50.a9_in1k; it has resnet50.a1_in1k'),
        ('zoo:resnet50', 'timm:zoo:resnet50: there is no source zoo; give hf-hub: or local-dir:'),
        ('local-dir:/nowhere', 'timm:local-dir:/nowhere cannot be read: '),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(BackboneError) as caught:
        TimmBackbone(name)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'out_indices': (0, 4)}, 'out_indices=(0, 4): choose from 0 to 3'),
        ({'out_norm': 'layer'}, "out_norm='layer': choose 'auto', True or False"),
        ({'frozen_stages': -2}, 'frozen_stages=-2: give a whole number, -1 or more'),
        ({'frozen_stages': 5}, 'frozen_stages=5: choose from -1 to 4'),
        ({'pyramid_channels': 0}, 'pyramid_channels=0: give a whole number, 1 or more'),
        ({'drop_path_rate': 2}, 'drop_path_rate=2: choose from 0 to 1'),
        ({'window_size': 14}, 'window_size=14: test_resnet is not a plain vision transformer'),
        ({'options': {'depth': 3}}, 'timm:test_resnet: ResNet.__init__() got an unexpected keyword'),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(BackboneError) as caught:
        TimmBackbone('test_resnet', **options)
    assert str(caught.value).startswith(message)


def test_images_below_32_pixels():
    with pytest.raises(BackboneError, match='input of 31x64 pixels'):
        TimmBackbone('test_resnet')(torch.zeros(1, 3, 31, 64))
