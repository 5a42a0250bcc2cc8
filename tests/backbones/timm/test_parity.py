"""timm's networks in the adapter equal the networks of mmdet and torchvision with the same weights."""

import pytest
import torch
import torchvision
from torch import nn

from backbones import TimmBackbone

SIZES = [(97, 131), (150, 115), (65, 220)]


def swin_tiny(ours):
    """Return mmdet's Swin-T with the weights of the adapter."""
    from mmdet.models.backbones.swin import SwinTransformer, swin_converter

    theirs = SwinTransformer(drop_path_rate=0.0)
    official = {}
    for name, value in ours.network.state_dict().items():
        layer, _, rest = name.removeprefix('layers.').partition('.')
        # timm puts the downsampling at the start of a stage, the release at the end of the one before.
        if rest.startswith('downsample.'):
            name = f'layers.{int(layer) - 1}.{rest}'
        official[name] = value
    converted = {
        name.removeprefix('backbone.'): value for name, value in swin_converter(official).items()
    }
    for index, norm in ours.out_norms.items():
        converted |= {f'norm{index}.{name}': value for name, value in norm.state_dict().items()}
    derived = {name: v for name, v in theirs.state_dict().items() if 'relative_position_index' in name}
    theirs.load_state_dict({**converted, **derived})
    return theirs


def pvt_v2_b2(ours):
    """Return mmdet's PVTv2-B2 with the weights of the adapter."""
    from mmdet.models.backbones.pvt import PyramidVisionTransformerV2, pvt_convert

    theirs = PyramidVisionTransformerV2(embed_dims=64, num_layers=[3, 4, 6, 3], drop_path_rate=0.0)
    official = {}
    for name, value in ours.network.state_dict().items():
        if name.startswith('patch_embed.'):
            name = name.replace('patch_embed.', 'patch_embed1.')
        else:
            _, stage, part, rest = name.split('.', 3)
            number = int(stage) + 1
            starts = {'downsample': 'patch_embed{}.', 'blocks': 'block{}.', 'norm': 'norm{}.'}
            name = starts[part].format(number) + rest
        official[name.replace('mlp.dwconv.', 'mlp.dwconv.dwconv.')] = value
    theirs.load_state_dict(pvt_convert(official))
    return theirs


class ResNet50(nn.Module):
    """torchvision's ResNet-50 with the weights of the adapter, returning the maps of its stages."""

    def __init__(self, ours):
        super().__init__()
        self.net = torchvision.models.resnet50()
        self.net.load_state_dict({**ours.network.state_dict(), **self.head()})

    def head(self):
        return {name: v for name, v in self.net.state_dict().items() if name.startswith('fc.')}

    def forward(self, x):
        net, maps = self.net, []
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            maps.append(x)
        return maps


CASES = {
    'swin_tiny_patch4_window7_224': swin_tiny,
    'pvt_v2_b2': pvt_v2_b2,
    'resnet50': ResNet50,
}


def randomized(module):
    """Give every parameter and statistic a value that shows mistakes in the translation."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(
                0.1 * parameter.std(unbiased=False).clamp(min=0.1) * torch.randn_like(parameter)
            )
    return module.eval()


@pytest.mark.parametrize('name', CASES)
def test_maps_equal_those_of_the_reference(name):
    ours = randomized(TimmBackbone(name))
    theirs = CASES[name](ours)
    theirs.eval()  # mmdet's Swin returns None here.
    for size in SIZES:
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            for own, reference in zip(ours(images), theirs(images), strict=True):
                scale = reference.abs().max()
                torch.testing.assert_close(own / scale, reference / scale, rtol=0, atol=1e-4)
