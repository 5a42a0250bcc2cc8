"""The contract of backbones: what keeps it, and what breaks one point of it."""

import copy
from functools import partial

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import backbones  # noqa: F401
from evaluation.config.config_files import read_config
from evaluation.config.contestants import find_backbone
from evaluation.models.backbone_contract import CHECKS
from evaluation.models.backbone_subject import (
    FAILED,
    NOTE,
    OK,
    SKIPPED,
    Check,
    Found,
    Subject,
    rounding_effect,
    run_checks,
)
from evaluation.utils.formats import significant
from tests.commands import ROOT
from tests.evaluation.models.broken_backbones import BROKEN, ChannelsBySize, Net, UnusedParameter

PAGES = sorted((ROOT / 'configs/_base_/backbones').glob('*.py'))
SMALLEST_SCALES = [
    name for page in PAGES for name in read_config(str(page)).to_dict() if name.endswith('_micro')
]
# Checks that may be skipped on a CPU without these products.
HALVES = ('bfloat16', 'float16')


def verdicts_of(factory, **settings):
    return {verdict.check: verdict for verdict in run_checks(Subject(factory, **settings), CHECKS)}


def names_with(verdicts, status):
    return [name for name, verdict in verdicts.items() if verdict.status == status]


def test_every_page_of_a_mixer_has_a_smallest_scale():
    assert {'swin_micro', 'dcn_micro', 'convnext_micro'} <= set(SMALLEST_SCALES)


@pytest.mark.parametrize('name', SMALLEST_SCALES)
def test_smallest_scales_keep_the_contract(name):
    settings = find_backbone(name, 'instance_segmentation').settings
    with DefaultScope.overwrite_default_scope('mmdet'):
        verdicts = verdicts_of(lambda: MODELS.build(copy.deepcopy(settings)))
    assert list(verdicts) == [check.name for check in CHECKS]
    assert not names_with(verdicts, FAILED), verdicts
    assert set(names_with(verdicts, SKIPPED)) <= set(HALVES)
    assert verdicts['channels'].figures == {'channels': list(settings['dims'])}
    assert verdicts['layer decay'].figures == {'layers': sum(settings['depths']) + 1}


@pytest.fixture(scope='module')
def verdicts():
    return verdicts_of(Net)


class TestPlainModule:
    def test_keeps_the_contract(self, verdicts):
        assert not names_with(verdicts, FAILED), verdicts
        assert set(names_with(verdicts, SKIPPED)) <= set(HALVES)

    def test_optional_methods_are_notes(self, verdicts):
        assert names_with(verdicts, NOTE) == ['layer decay', 'init_weights', 'normalization']

    def test_figures(self, verdicts):
        """Products of each convolution: kernel, channels, and positions of its map."""
        dims = [3, 8, 8, 16, 32, 64]
        pairs = list(zip(dims[:-1], dims[1:], (112, 56, 28, 14, 7), strict=True))
        weights = sum(9 * in_dim * dim + dim for in_dim, dim, _ in pairs)
        norms = 2 * sum(dims[2:])
        assert verdicts['builds'].figures == {'parameters': weights + norms}
        products = sum(9 * in_dim * dim * side**2 for in_dim, dim, side in pairs)
        assert verdicts['FLOPs'].figures['flops'] == products
        assert verdicts['channels'].figures == {'channels': dims[2:]}
        assert verdicts['gradients'].figures == {'parameters': 18, 'frozen': 0, 'zeros': 0}


@pytest.mark.parametrize(
    ('network', 'check', 'messages'),
    [(network, check, messages) for network, check, *messages in BROKEN],
    ids=lambda value: getattr(value, '__name__', None),
)
def test_broken_backbone_fails_one_check(network, check, messages):
    sizes = ((64, 64), (100, 256)) if network is ChannelsBySize else ((64, 64), (97, 131))
    verdicts = verdicts_of(network, sizes=sizes)
    if check in HALVES and verdicts[check].status == SKIPPED:
        pytest.skip(verdicts[check].text)
    assert names_with(verdicts, FAILED) == [check], verdicts
    for message in messages:
        assert message in verdicts[check].text
    # One line, which says what to do.
    assert '\n' not in verdicts[check].text
    assert '; ' in verdicts[check].text or check == 'builds'


def test_every_check_is_broken_by_a_backbone():
    broken = {check for _, check, *_ in BROKEN}
    # A missing `init_weights` is only noted; overflow in bfloat16 is one in float32, too.
    assert {check.name for check in CHECKS} - broken == {'bfloat16', 'init_weights'}


def test_checks_that_need_a_broken_one_are_skipped():
    needs = {'a': (), 'b': ('a',), 'c': ('b',), 'd': ()}

    def check(subject):
        return Found('fine')

    def broken(subject):
        raise ZeroDivisionError('no\nway')

    checks = [Check(name, broken if name == 'a' else check, needs[name]) for name in needs]
    started = []
    verdicts = list(run_checks(Subject(Net), checks, started.append))
    assert [(verdict.check, verdict.status) for verdict in verdicts] == [
        ('a', FAILED),
        ('b', SKIPPED),
        ('c', SKIPPED),
        ('d', OK),
    ]
    assert verdicts[0].text.startswith('ZeroDivisionError: no way (test_backbone_contract.py, line ')
    assert 'in broken' in verdicts[0].traceback
    assert verdicts[1].text == 'needs "a" to be ok'
    assert started == ['a', 'd']


def test_frozen_parameters_need_no_gradient():
    def freeze():
        network = UnusedParameter()
        network.head.requires_grad_(False)
        return network

    verdicts = verdicts_of(freeze)
    assert not names_with(verdicts, FAILED), verdicts
    assert verdicts['gradients'].figures == {'parameters': 18, 'frozen': 2, 'zeros': 0}


@pytest.mark.parametrize('share', [0.0, 1e-6, 1e-2])
def test_difference_in_a_batch_is_relative_to_the_largest_value(share):
    """A small share of the batch's mean, which is known, is added to each image."""

    class Mixed(nn.Module):
        def forward(self, x):
            return (x + share * x.mean(0, keepdim=True),)

    subject = Subject(Mixed)
    images = subject.images(3)
    check = next(check for check in CHECKS if check.name == 'batch invariance')
    (verdict,) = run_checks(subject, [check])
    expected = 0.0
    for image in images:
        alone, together = (1 + share) * image, image + share * images.mean(0)
        largest = max(alone.abs().max(), together.abs().max())
        expected = max(expected, ((alone - together).abs().max() / largest).item())
    if share < 1e-4:
        assert verdict.status == OK
        assert verdict.figures['difference'] == pytest.approx(expected, rel=0.1, abs=1e-9)
    else:
        assert verdict.status == FAILED
        assert f'differ by {significant(expected, 2)} of the largest value' in verdict.text


def test_rounding_effect_of_a_linear_network():
    """Its weight is rounded to 1 with 8 bits, and is exact with 11 bits."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(1 + 2.0**-9))

        def forward(self, x):
            return (self.weight * torch.ones_like(x),)

    effect = rounding_effect(Subject(Scaled), bits=8)
    assert effect == pytest.approx(2.0**-9 / (1 + 2.0**-9), rel=1e-4)
    assert rounding_effect(Subject(Scaled), bits=11) == 0


def test_networks_that_amplify_roundings_keep_the_contract():
    """Depthwise convolutions with batch norms, untrained, change by more than 5 % in bfloat16."""
    factory = partial(MODELS.build, {'type': 'TimmBackbone', 'model_name': 'tf_efficientnet_lite0'})
    verdicts = verdicts_of(factory, sizes=((64, 64),))
    assert not names_with(verdicts, FAILED), verdicts
    assert verdicts['bfloat16'].figures['difference'] > 0.05


def test_batch_norms_have_statistics():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3, momentum=0.25)

        def forward(self, x):
            return (self.norm(x),)

    subject = Subject(Normed)
    images = subject.images(4)
    norm = subject.network.norm
    assert not norm.training
    assert norm.momentum == 0.25
    torch.testing.assert_close(norm.running_mean, images.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, images.transpose(0, 1).flatten(1).var(1))


def test_random_state_is_restored():
    before = torch.get_rng_state()
    verdicts_of(Net, sizes=((64, 64),))
    assert torch.equal(before, torch.get_rng_state())
