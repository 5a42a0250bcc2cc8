"""Reproduce figures of the public implementation of single mixers; see tests/data/README.md."""

import json
import zlib

import numpy as np
import pytest
import torch

from backbones import MIXERS
from backbones.checkpoint.translation import fit
from tests.data.fill import cotangent, fill
from tests.variants import LATER_MIXERS, ROOT

# Bounds relative to the largest value, or to the norm of a gradient.
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-7}
LOSS_SCALE = 2.0**12
# The suite's names of mixers, where they differ from those of the files.
TOKENS = {'mlla': 'linear_attention'}
# The suite's names of options, where they differ; None for options that the suite does not have.
OPTIONS = {
    'ss2d': {'gate': None},
    'linear_attention': {'rope_base': None},
    'dcnv4': {
        'group': 'num_heads',
        'stride': None,
        'pad': None,
        'dilation': None,
        'center_feature_scale': None,
        'remove_center': None,
    },
    'replk': {'mode': None},
    'focal': {'focal_factor': None, 'bias': None},
    'agent': {'sr_ratio': None},
}
# Gradients of these jump where a sampling position crosses a pixel, so they depend on how offsets are
# rounded; their own tests compare gradients under autocast at the same rounded offsets.
JUMPING = {'dcnv4'}


def _cases():
    for file in sorted((ROOT / 'tests/data/mixers').glob('*.json')):
        for name, case in json.loads(file.read_text()).items():
            yield pytest.param(TOKENS.get(file.stem, file.stem), case, id=name)


CASES = [*_cases()]
every_case = pytest.mark.parametrize(('token', 'case'), CASES)


def filled(name, shape):
    """Return a parameter or buffer of the measured mixers, float32."""
    z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    z = z.astype(np.float32).astype(np.float64)
    if name == 'x_proj_weight' or name == 'dt_projs_weight':
        value = z / np.sqrt(shape[2])
    elif name == 'dt_projs_bias':
        value = np.log(np.expm1(0.03 * np.exp(np.clip(z, -2, 2))))
    elif name == 'A_logs':
        value = np.log(np.arange(shape[1]) + 1) + 0.1 * z
    elif name in ('an_bias', 'na_bias', 'ah_bias', 'aw_bias', 'ha_bias', 'wa_bias'):
        value = 0.5 * z
    else:
        value = fill(name, tuple(shape))
    return torch.from_numpy(np.asarray(value, np.float32))


def build(token, case, dtype):
    """Return the mixer of a case with the measured weights, in the mode of the case."""
    renamed = OPTIONS.get(token, {})
    options = {renamed.get(name, name): value for name, value in case['options'].items()}
    options.pop(None, None)
    mixer = MIXERS[token](case['input'][-1], 0, **options)
    own = mixer.state_dict()
    shapes = {**case['parameters'], **case.get('buffers', {})}
    weights = {name: fit(filled(name, shape), name, own[name]) for name, shape in shapes.items()}
    counts = {name: value for name, value in own.items() if name.endswith('num_batches_tracked')}
    mixer.load_state_dict({**weights, **counts})
    return mixer.to(dtype).train(case['options'].get('mode') == 'train')


def input_of(case, dtype):
    x = np.random.RandomState(0).standard_normal(case['input']).astype(np.float32)
    return torch.from_numpy(x).to(dtype).requires_grad_()


def assert_probe(tensor, probe, tolerance):
    value = tensor.detach().double().numpy().reshape(probe['shape'])
    near = tolerance * probe['absmax']
    np.testing.assert_allclose(value.ravel()[probe['index']], probe['value'], rtol=0, atol=near)
    summaries = {
        'mean': value.mean(),
        'std': value.std(),
        'absmax': np.abs(value).max(),
        'dot': (value * cotangent(1, value.shape)).mean(),
    }
    for name, found in summaries.items():
        assert abs(found - probe[name]) < near, name


@every_case
@pytest.mark.parametrize('path', ['fast', 'reference'])
@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
def test_parity(monkeypatch, token, case, path, dtype):
    monkeypatch.setenv('DENSE_MIXERS_CPU', path)
    tolerance = TOLERANCES[dtype]
    mixer, x = build(token, case, dtype), input_of(case, dtype)
    out = mixer(x)
    assert out.dtype == dtype
    loss = (out * torch.from_numpy(cotangent(0, out.shape))).mean()
    loss.backward()

    assert_probe(out, case['output'], tolerance)
    assert_probe(x.grad, case['grad_input'], tolerance)
    assert abs(loss.item() - case['loss']) < tolerance * case['output']['absmax']
    norms = {name: p.grad.norm().item() for name, p in mixer.named_parameters()}
    assert norms.keys() == case['grad_norm'].keys()
    for name, norm in case['grad_norm'].items():
        assert norms[name] == pytest.approx(norm, rel=tolerance), name
    for name, probe in case.get('running_after', {}).items():
        assert_probe(mixer.get_buffer(name), probe, tolerance)


@every_case
def test_parity_in_inference(token, case):
    mixer, x = build(token, case, torch.float32), input_of(case, torch.float32)
    with torch.no_grad():
        assert_probe(mixer(x), case['output'], TOLERANCES[torch.float32])


@every_case
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_parity_under_autocast(token, case, dtype):
    """Autocast may lose what rounding of inputs, weights and intermediate maps loses.

    The loss is scaled, as in any training in float16, in which the gradients would vanish.
    """
    mixer, x = build(token, case, torch.float32), input_of(case, torch.float32)
    with torch.autocast('cpu', dtype):
        out = mixer(x)
        loss = (out.float() * torch.from_numpy(cotangent(0, out.shape))).mean()
    (loss * LOSS_SCALE).backward()
    lost = 8 * torch.finfo(dtype).eps
    assert_probe(out, case['output'], lost)
    if token in JUMPING:
        return
    assert_probe(x.grad / LOSS_SCALE, case['grad_input'], lost)
    for name, norm in case['grad_norm'].items():
        found = mixer.get_parameter(name).grad.norm().item() / LOSS_SCALE
        assert found == pytest.approx(norm, rel=lost), name


def test_every_mixer_since_the_paper_is_measured():
    measured = {token for token, _ in (case.values for case in CASES)}
    assert measured == set(LATER_MIXERS)
