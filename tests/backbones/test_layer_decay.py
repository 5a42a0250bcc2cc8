"""Layer-wise learning rates, compared with the order of parameters in a forward pass."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from backbones import BackboneError
from tests.variants import MICRO, classifier_config

RATE, DECAY = 1e-3, 0.5


class Model(nn.Module):
    """A backbone followed by a layer."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.decode_head = nn.Linear(2, 2)


def learning_rates(model, **paramwise):
    wrapper = build_optim_wrapper(
        model,
        {
            'optimizer': {'type': 'AdamW', 'lr': RATE, 'weight_decay': 0.05},
            'constructor': 'LayerDecayConstructor',
            'paramwise_cfg': {'layer_decay_rate': DECAY, **paramwise},
        },
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(p)]: group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']
    }


def build(config):
    with torch.device('meta'):
        return Model(MODELS.build(config))


@pytest.mark.parametrize('kind', ['dense', 'classifier'])
@pytest.mark.parametrize('variant', MICRO)
def test_rates_by_depth(variant, kind):
    config = MICRO[variant] if kind == 'dense' else classifier_config(MICRO[variant])
    model, blocks = build(config), sum(config['depths'])
    rates = learning_rates(model)
    assert rates.keys() == dict(model.named_parameters()).keys()
    number = 0
    for stage, depth in enumerate(config['depths']):
        for block in range(depth):
            number += 1
            prefix = f'backbone.stages.{stage}.{block}.'
            expected = RATE * DECAY ** (blocks + 1 - number)
            within = [rate for name, rate in rates.items() if name.startswith(prefix)]
            assert within == pytest.approx([expected] * len(within))
    assert rates['backbone.stem.conv1.weight'] == pytest.approx(RATE * DECAY ** (blocks + 1))
    last = 'backbone.out_norms.3.weight' if kind == 'dense' else 'backbone.head.weight'
    assert rates[last] == rates['decode_head.weight'] == pytest.approx(RATE)


@pytest.mark.parametrize('variant', MICRO)
def test_layers_follow_the_order_of_a_forward_pass(variant):
    """The order of modules in a forward pass is an independent measure of depth."""
    backbone = MODELS.build(classifier_config(MICRO[variant])).eval()
    met = []
    for module_name, module in backbone.named_modules():
        if not list(module.children()) and list(module.parameters(recurse=False)):
            module.register_forward_pre_hook(lambda *_, name=module_name: met.append(name))
    with torch.no_grad():
        backbone(torch.randn(1, 3, 64, 64))
    layers = [backbone.layer_of(f'{name}.weight') for name in met]
    assert layers == sorted(layers)
    assert {*layers} >= {0, 1, backbone.num_layers}


def test_other_factors_still_apply():
    model = build(MICRO['swin_micro'])
    rates = learning_rates(model, custom_keys={'decode_head': {'lr_mult': 10.0}})
    assert rates['decode_head.weight'] == pytest.approx(10 * RATE)


@pytest.mark.parametrize('rate', [0, -0.5, 1.5])
def test_invalid_rate(rate):
    with pytest.raises(BackboneError, match='layer_decay_rate'):
        learning_rates(build(MICRO['swin_micro']), layer_decay_rate=rate)


def test_backbone_without_layer_of():
    with pytest.raises(BackboneError, match=r'Linear has no layer_of'):
        learning_rates(Model(nn.Linear(2, 2)))
