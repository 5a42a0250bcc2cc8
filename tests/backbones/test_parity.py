"""Reproduce figures of the released implementation; see tests/data/README.md."""

import json
import re

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

import backbones  # noqa: F401
from backbones.checkpoint import DERIVED, released_name
from backbones.ops import attention_reference
from tests.data.fill import cotangent, fill, image
from tests.variants import ROOT, VARIANTS, classifier_config

TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
DATA = ROOT / 'tests/data'
DENSE = json.loads((DATA / 'dense_outputs.json').read_text())
CLASSIFIER = json.loads((DATA / 'classifier_outputs.json').read_text())
RELEASED = json.loads((DATA / 'released_names.json').read_text())


def assert_probe(tensor, probe, tolerance):
    value = tensor.detach().double().numpy()
    assert list(value.shape) == probe['shape']
    near = tolerance * probe['absmax']
    np.testing.assert_allclose(value.ravel()[probe['index']], probe['value'], rtol=0, atol=near)
    assert abs(value.mean() - probe['mean']) < near
    assert abs(value.std() - probe['std']) < near
    assert abs(np.abs(value).max() - probe['absmax']) < near


def released_weights(shapes):
    weights = {}
    for name, shape in shapes.items():
        if not name.endswith('num_batches_tracked'):
            weights[name] = torch.from_numpy(np.asarray(fill(name, tuple(shape)), np.float32))
    return weights


def dense_shapes(variant, dims):
    shapes = RELEASED[variant]['parameters']
    heads = ('conv_head.', 'head.', 'stage_norms.')
    shapes = {n: s for n, s in shapes.items() if not n.startswith(heads)}
    for i, dim in enumerate(dims):
        shapes |= {f'out_norm_{i}.weight': [dim], f'out_norm_{i}.bias': [dim]}
    return shapes


def parse(case):
    return re.fullmatch(r'([a-z]+_[a-z]+)_(\d+)x3x(\d+)x(\d+)', case).groups()


@pytest.mark.parametrize('case', DENSE)
def test_dense_parity(case):
    variant, *size = parse(case)
    config = {**VARIANTS[variant], 'drop_path_rate': 0.0}
    model = MODELS.build(config).eval()
    incompatible = model.load_state_dict(released_weights(dense_shapes(variant, model.dims)))
    assert not incompatible.missing_keys
    assert not incompatible.unexpected_keys
    expected = DENSE[case]
    trace = hook_trace(model) if 'trace' in expected else {}

    x = torch.from_numpy(image(*map(int, size))).requires_grad_()
    outputs = model(x)
    loss = sum((out * torch.from_numpy(cotangent(i, out.shape))).mean() for i, out in enumerate(outputs))
    loss.backward()

    for out, probe in zip(outputs, expected['outputs'], strict=True):
        assert_probe(out, probe, TOLERANCE)
    for name, probe in expected.get('trace', {}).items():
        # Released mixers differ in whether a block has its channels first or last.
        output = trace[name]
        channels_first = list(output.shape) != probe['shape']
        assert_probe(output.permute(0, 3, 1, 2) if channels_first else output, probe, TOLERANCE)
    scale = max(1.0, max(probe['absmax'] for probe in expected['outputs']))
    assert abs(loss.item() - expected['loss']) < TOLERANCE * scale
    assert_probe(x.grad, expected['grad_input'], GRADIENT_TOLERANCE)
    norms = {
        released_name(name, model.mixer_name): p.grad.norm().item()
        for name, p in model.named_parameters()
    }
    for name, norm in expected['grad_norm'].items():
        assert norms[name] == pytest.approx(norm, rel=GRADIENT_TOLERANCE), name


def hook_trace(model):
    """Collect outputs (B, H, W, C) by the module names of the released implementation."""
    trace = {}

    def keep(name):
        def hook(module, inputs, output):
            trace[name] = output

        return hook

    for i, downsample in enumerate((model.stem, *model.downsamples)):
        downsample.register_forward_hook(keep(f'downsample_layers.{i}'))
        for j, block in enumerate(model.stages[i]):
            block.register_forward_hook(keep(f'stages.{i}.{j}'))
    return trace


@pytest.fixture
def filled_masks(monkeypatch):
    """Fill the masks of shifted windows as in the classifier's figures.

    The released classifier stores them in buffers `stages.i.j.attn_mask`, which `fill` overwrote with
    noise like every other entry of the state dict.
    """
    masks = []

    def use(model):
        if model.mixer_name == 'swin':
            # The compiled operator makes its own masks.
            monkeypatch.setenv('DENSE_MIXERS_CPU', 'reference')
        masks.extend(
            f'stages.{i}.{j}.attn_mask'
            for i, stage in enumerate(model.stages[:-1])
            for j in range(1, len(stage), 2)
        )

    def filled(height, width, window_size, shift, device):
        shape = (height * width // window_size**2, window_size**2, window_size**2)
        return torch.from_numpy(fill(masks.pop(0), shape))

    monkeypatch.setattr(attention_reference, 'shift_mask', filled)
    return use


@pytest.mark.parametrize('case', CLASSIFIER)
def test_classifier_parity(case, filled_masks):
    variant = case.split('_logits_')[0]
    model = MODELS.build(classifier_config(VARIANTS[variant])).eval()
    model.load_state_dict(released_weights(RELEASED[variant]['parameters']), strict=False)
    filled_masks(model)
    with torch.no_grad():
        logits = model(torch.from_numpy(image(2, 224, 224)))
    assert_probe(logits, CLASSIFIER[case], TOLERANCE)


@pytest.mark.parametrize('variant', RELEASED)
def test_parity_of_names_and_parameter_counts(variant):
    with torch.device('meta'):
        model = MODELS.build(classifier_config(VARIANTS[variant]))
    expected = {
        name: shape
        for name, shape in RELEASED[variant]['parameters'].items()
        if not name.endswith(DERIVED)
    }
    own = {released_name(n, model.mixer_name): v for n, v in model.state_dict().items()}
    assert own.keys() == expected.keys()
    for name, value in own.items():
        assert value.numel() == np.prod(expected[name]), name
    parameters = sum(p.numel() for p in model.parameters())
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    assert parameters == sum(
        int(np.prod(shape)) for name, shape in expected.items() if not name.endswith(buffers)
    )
    assert round(parameters / 1e6, 4) == RELEASED[variant]['params_million']
