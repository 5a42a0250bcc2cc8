import pytest
import torch

from backbones import MIXERS, BackboneError
from backbones.unified import UnifiedBackbone


def build(dim=32, seed=0, **options):
    """Return a mixer with random parameters, whose offsets reach over several pixels."""
    torch.manual_seed(seed)
    mixer = MIXERS['dcnv4'](dim, 0, num_heads=2, **options)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return mixer


def loss_of(mixer, x, cotangent):
    return (mixer(x).to(cotangent.dtype) * cotangent).sum()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_gradients_under_autocast_at_the_same_rounded_offsets(dtype):
    """Compare with float64 with the offsets and weights that autocast has rounded, as gradients jump."""
    mixer, exact = build(), build().double()
    x, cotangent = torch.randn(2, 9, 11, 32), torch.randn(2, 9, 11, 32)
    rounded = []
    mixer.offset_mask.register_forward_hook(lambda _, __, out: rounded.append(out.detach().double()))
    exact.offset_mask.register_forward_hook(lambda _, __, out: out + (rounded[0] - out).detach())
    one, other = x.clone().requires_grad_(), x.double().requires_grad_()
    with torch.autocast('cpu', dtype):
        loss = loss_of(mixer, one, cotangent)
    loss.backward()
    assert rounded[0].unique().numel() > 100
    loss_of(exact, other, cotangent.double()).backward()
    lost = 8 * torch.finfo(dtype).eps
    pairs = [(one, other), *zip(mixer.parameters(), exact.parameters(), strict=True)]
    for found, truth in pairs:
        near = lost * truth.grad.abs().max().item()
        torch.testing.assert_close(found.grad.double(), truth.grad, rtol=0, atol=near)


def test_backbone_starts_with_zero_outputs_and_only_weights_learn():
    options = {'type': 'dcnv4', 'num_heads': (1, 2, 2, 4), 'offset_scale': (1.0, 0.5, 1.0, 2.0)}
    network = UnifiedBackbone(mixer=options, dims=(16, 32, 32, 64), depths=(1, 1, 1, 1))
    mixers = [module for module in network.modules() if isinstance(module, MIXERS['dcnv4'])]
    assert [mixer.offset_scale for mixer in mixers] == [1.0, 0.5, 1.0, 2.0]
    for mixer in mixers:
        x = torch.randn(1, 5, 6, mixer.value_proj.in_features)
        out = mixer(x)
        assert not out.any()
        out.backward(torch.randn_like(out))
        heads = mixer.num_heads
        gradient = mixer.offset_mask.weight.grad[: 27 * heads].unflatten(0, (heads, 27))
        assert not gradient[:, :18].any()
        assert gradient[:, 18:].any(dim=-1).all()
        for projection in (mixer.value_proj, mixer.output_proj):
            assert not projection.weight.grad.any()
            # A truncated normal with std 0.02 stays far below this bound of Xavier's uniform.
            bound = (3 / mixer.value_proj.in_features) ** 0.5
            assert 0.9 * bound < projection.weight.abs().max() <= bound


@pytest.mark.parametrize('options', [{}, {'dw_kernel_size': None}, {'output_bias': True}], ids=str)
def test_parameters_follow_the_options(options):
    names = {name for name, _ in build(**options).named_parameters()}
    assert ('offset_mask_dw.weight' in names) == ('dw_kernel_size' not in options)
    assert ('output_proj.bias' in names) == ('output_bias' in options)


def test_mixer_is_exported_and_compiled():
    mixer, x = build(), torch.randn(1, 5, 6, 32)
    with torch.no_grad():
        expected = mixer(x)
        exported = torch.export.export(mixer, (x,))
        torch.testing.assert_close(exported.module()(x), expected)
        compiled = torch.compile(mixer, fullgraph=True, backend='aot_eager')
        torch.testing.assert_close(compiled(x), expected)
    assert 'dense_mixers.dcnv4' in exported.graph_module.code


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'num_heads': 3}, '32 channels cannot be split'),
        ({'num_heads': 2, 'kernel_size': 2}, 'kernel_size=2: choose an odd number'),
        ({'num_heads': 2, 'dw_kernel_size': 4}, 'dw_kernel_size=4: choose an odd number'),
        ({'num_heads': 2, 'offset_scale': 0.0}, 'offset_scale=0.0: choose a positive number'),
        ({'num_heads': 2, 'offset_scale': float('nan')}, 'offset_scale=nan'),
    ],
)
def test_bad_options_are_rejected(options, message):
    with pytest.raises(BackboneError, match=message):
        MIXERS['dcnv4'](32, 0, **options)
