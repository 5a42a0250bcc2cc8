import numpy as np
import pytest
import torch

from backbones import MIXERS, BackboneError
from tests.backbones.ops.neighborhoods import attended_in_loops

NeighborhoodAttention = MIXERS['nat']


def mixer(dim=10, block_index=0, **options):
    torch.manual_seed(0)
    built = NeighborhoodAttention(dim, block_index, **{'num_heads': 2, 'kernel_size': 3, **options})
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built


def by_definition(built, x):
    """Pad the input, project, attend in loops, cut off the padding and project again, in NumPy."""
    batch, height, width, dim = x.shape
    side = built.kernel_size * built.dilation
    padded = np.zeros((batch, max(height, side), max(width, side), dim))
    padded[:, :height, :width] = x.numpy()
    weights = {name: p.detach().double().numpy() for name, p in built.named_parameters()}
    qkv = padded @ weights['qkv.weight'].T + weights.get('qkv.bias', 0)
    qkv = torch.from_numpy(qkv).view(*padded.shape[:3], 3, built.num_heads, -1)
    out = attended_in_loops(*qkv.unbind(3), built.rpb, built.kernel_size, built.dilation)
    out = out[:, :height, :width].flatten(3).numpy()
    return torch.from_numpy(out @ weights['proj.weight'].T + weights['proj.bias'])


@pytest.mark.parametrize(
    ('height', 'width', 'options'),
    [
        (6, 7, {}),
        (1, 1, {}),
        (2, 9, {}),
        (5, 20, {'dilation': 3}),
        (8, 11, {'dilation': 2, 'qkv_bias': False}),
    ],
    ids=str,
)
@pytest.mark.parametrize('choice', ['fast', 'reference'])
def test_definition(monkeypatch, choice, height, width, options):
    """Padding is attended to as any other token, with keys and values equal to the bias of qkv."""
    monkeypatch.setenv('DENSE_MIXERS_CPU', choice)
    built, x = mixer(**options), torch.randn(2, height, width, 10)
    expected = by_definition(built, x.double())
    torch.testing.assert_close(built(x).double(), expected, rtol=0, atol=1e-5)


def test_dilations_are_repeated_over_the_blocks_of_a_stage():
    found = [mixer(block_index=block, dilation=[1, 8, 3]).dilation for block in range(5)]
    assert found == [1, 8, 3, 1, 8]
    assert mixer(block_index=3, dilation=2).dilation == 2


@pytest.mark.parametrize('dilation', [0, -1, 1.5, True, [], [1, 0], ['1'], '12', None, [[1]]], ids=repr)
def test_bad_dilations_are_rejected(dilation):
    with pytest.raises(BackboneError, match=r'dilation=.*: choose a whole number, 1 or more'):
        mixer(dilation=dilation)


@pytest.mark.parametrize(('kernel_size', 'message'), [(4, 'choose an odd'), (1, 'no neighbors')])
def test_bad_kernel_sizes_are_rejected(kernel_size, message):
    with pytest.raises(BackboneError, match=message):
        mixer(kernel_size=kernel_size)


def test_initialization():
    built = NeighborhoodAttention(64, 0, num_heads=2)
    built.reset_parameters()
    assert built.rpb.std().item() == pytest.approx(0.02, rel=0.2)
    assert {name: tuple(p.shape) for name, p in built.named_parameters()} == {
        'qkv.weight': (192, 64),
        'qkv.bias': (192,),
        'rpb': (2, 13, 13),
        'proj.weight': (64, 64),
        'proj.bias': (64,),
    }


@pytest.mark.parametrize('size', [(6, 7), (2, 2)])
def test_compiled_and_exported(size):
    built, x = mixer().eval(), torch.randn(1, *size, 10)
    expected = built(x)
    compiled = torch.compile(built, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(x), expected)
    torch.testing.assert_close(torch.export.export(built, (x,)).module()(x), expected)
