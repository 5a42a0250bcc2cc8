"""Weights load completely, regardless of what wrapped the model when they were saved."""

import itertools
from collections import OrderedDict

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from backbones import BackboneError
from backbones.checkpoint import fit_weights, load_pretrained, select_prefix, weights_of
from backbones.checkpoint.wrappers import unwrapped_name
from evaluation.models.model_weights import check_whole, fit_model
from tests.variants import VARIANTS

pytestmark = pytest.mark.habits


class Holder(nn.Module):
    """A trainer that holds the model as an attribute, and has a loss with its own weight."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        depth = sum(isinstance(part, Holder) for part in self.modules())
        setattr(self, f'loss_{depth}', nn.Linear(1, 1, bias=False))


class Detector(BaseModule):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.neck = nn.Conv2d(32, 8, 1)


WRAPPINGS = {'compiled': torch.compile, 'parallel': nn.DataParallel, 'held': Holder}


@pytest.fixture(scope='module')
def backbone():
    with torch.device('meta'):
        network = MODELS.build(VARIANTS['swin_micro'])
    # Tensors of one element, since only names and shapes matter.
    for part in network.modules():
        for name, value in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(torch.zeros(()).expand(value.shape)))
    return network


CHAINS = [
    chain
    for length in range(1, 4)
    for chain in itertools.product(WRAPPINGS, repeat=length)
    # torch.compile does not return a module if the model is compiled already.
    if ('compiled', 'compiled') not in itertools.pairwise(chain)
]


@pytest.mark.parametrize('wrappings', CHAINS, ids='+'.join)
class TestWrapped:
    def test_backbone(self, backbone, wrappings):
        wrapped = backbone
        for name in wrappings:
            wrapped = WRAPPINGS[name](wrapped)
        weights = weights_of({'state_dict': wrapped.state_dict()}, 'a.pth')
        fitting, report = fit_weights(backbone, select_prefix(weights, None, 'a.pth'), 'a.pth')
        assert fitting.keys() == backbone.state_dict().keys()
        assert '(100.0%' in str(report)

    @pytest.mark.parametrize('part', ['whole', 'backbone', 'both'])
    def test_detector(self, backbone, wrappings, part):
        detector, wrapped = Detector(backbone), Detector(backbone)
        for name in wrappings:
            if part != 'whole':
                wrapped.backbone = WRAPPINGS[name](wrapped.backbone)
        for name in wrappings:
            if part != 'backbone':
                wrapped = WRAPPINGS[name](wrapped)
        weights = {n: v for n, v in wrapped.state_dict().items() if 'loss_' not in n}
        fitted, report = fit_model(detector, weights_of(weights, 'a.pth'), 'a.pth')
        assert fitted.keys() == detector.state_dict().keys()
        assert str(report).count('(100.0%') == 2
        check_whole(detector, fitted, report, 'a.pth')
        # The backbone alone, as with `--pretrained`.
        chosen = select_prefix(weights_of(weights, 'a.pth'), None, 'a.pth')
        assert fit_weights(backbone, chosen, 'a.pth')[1].is_whole


@pytest.mark.parametrize(
    ('full', 'name'),
    [
        ('_orig_mod.module.backbone._orig_mod.stem.a', 'backbone.stem.a'),
        ('model.backbone.model.backbone.stem.a', 'backbone.stem.a'),
        ('neck._orig_mod.convs.0.a', 'neck.convs.0.a'),
        ('head.model.a', 'head.model.a'),
        ('head.module.a', 'head.module.a'),
        ('modules.a', 'modules.a'),
        ('model', 'model'),
        ('backbone.model', 'backbone.model'),
    ],
)
def test_names(full, name):
    assert unwrapped_name(full) == name


def test_a_network_with_a_part_called_model():
    """Wrapped networks of other libraries have such a part."""
    network = nn.Sequential(OrderedDict(model=nn.Linear(3, 4)))
    weights = weights_of(network.state_dict(), 'a.pth')
    assert fit_weights(network, select_prefix(weights, None, 'a.pth'), 'a.pth')[1].is_whole
    detector = Detector(network)
    fitted, _ = fit_model(detector, weights_of(detector.state_dict(), 'a.pth'), 'a.pth')
    assert fitted.keys() == detector.state_dict().keys()


@pytest.mark.parametrize('prefix', ['module.student', '_orig_mod.student.', 'student'])
def test_prefix_with_wrappers(prefix):
    content = {'module._orig_mod.student.a': torch.ones(1), 'module.teacher.a': torch.zeros(1)}
    weights = weights_of(content, 'a.pth')
    assert select_prefix(weights, prefix, 'a.pth') == {'a': torch.ones(1)}


def test_averages_next_to_the_weights():
    """`model.` is not a wrapper's prefix if the file also contains other networks."""
    both = {'model.a': torch.ones(1), 'ema.a': torch.zeros(1)}
    weights = weights_of(both, 'a.pth')
    assert select_prefix(weights, 'model', 'a.pth') == {'a': torch.ones(1)}
    assert select_prefix(weights, 'ema', 'a.pth') == {'a': torch.zeros(1)}


def test_two_weights_with_the_same_name():
    with pytest.raises(BackboneError, match=r'has a and module\.a, which both mean a; keep one'):
        weights_of({'a': torch.ones(1), 'module.a': torch.zeros(1)}, 'x.pth')


@pytest.mark.parametrize('prefix', ['backbone._orig_mod.', '_orig_mod.module.backbone._orig_mod.'])
def test_values(tmp_path, prefix):
    """Also with `load_state_dict`, which mmengine's own loading uses."""
    torch.manual_seed(1)
    source = MODELS.build(VARIANTS['pvt_micro'])
    torch.save({f'{prefix}{n}': v for n, v in source.state_dict().items()}, tmp_path / 'a.pth')
    loaded = MODELS.build(VARIANTS['pvt_micro'])
    assert load_pretrained(loaded, str(tmp_path / 'a.pth')).share == 1
    detector = Detector(MODELS.build(VARIANTS['pvt_micro']))
    detector.load_state_dict(
        {f'backbone._orig_mod.{n}': v for n, v in source.state_dict().items()}, strict=False
    )
    for network in (loaded, detector.backbone):
        assert all(torch.equal(v, source.state_dict()[n]) for n, v in network.state_dict().items())
