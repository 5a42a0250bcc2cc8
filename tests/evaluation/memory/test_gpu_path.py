"""Whole training steps as a GPU runs them, traced without one: forward, loss, backward, and dtypes.

Tensors say that they are on a GPU and have no values (`evaluation.memory.shapes_only`). An operation
that also gets a tensor of the CPU fails, as on a GPU.
"""

import copy
import re

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evaluation.benchmark.passes import Size
from evaluation.memory.prediction import run_step
from evaluation.memory.shapes_only import shapes_only
from evaluation.utils.errors import UserError
from tests.variants import ROOT, VARIANTS, read_leaf

GPU = torch.device('cuda')
TINY = [name for name in VARIANTS if name.endswith('_tiny')]
TASKS = {'mask_rcnn': 'Mask R-CNN', 'upernet': 'UperNet'}
PAGE = ROOT / 'docs/training.md'
BITS = {torch.bfloat16: '16', torch.float32: '32'}
# Operators that move and select values, of a few numbers, of boxes, and sums of any dtype.
LEFT_OUT = {
    *('_adaptive_avg_pool2d', '_local_scalar_dense', '_to_copy', '_unsafe_view', 'abs', 'add', 'add_'),
    *('as_strided', 'as_strided_', 'bernoulli_', 'cat', 'clamp', 'clamp_', 'clone', 'copy_', 'detach'),
    *('div', 'div_', 'empty', 'exp', 'expand', 'fill_', 'floor', 'index', 'index_put', 'index_put_'),
    *('lift_fresh', 'log', 'log2', 'max', 'maximum', 'mean', 'minimum', 'mul', 'mul_', 'new_empty'),
    *('new_full', 'new_ones', 'new_zeros', 'ones_like', 'permute', 'rand', 'randn', 'repeat', 'select'),
    *('sgn', 'sigmoid', 'slice', 'sort', 'sqrt', 'squeeze', 'stack', 'sub', 'sub_', 'sum', 't', 'topk'),
    *('unbind', 'uniform_', 'unsqueeze', 'view', 'zeros'),
}
# Operators whose backward operators have other names.
BACKWARD = {
    'threshold_backward': 'relu',
    '_log_softmax_backward_data': '_log_softmax',
    'nll_loss_backward': 'nll_loss_forward',
    'nll_loss2d_backward': 'nll_loss2d_forward',
    '_roi_align_backward': 'roi_align',
}


class Dtypes(TorchDispatchMode):
    """Collects the dtypes of the floating-point outputs of each operator."""

    def __init__(self):
        super().__init__()
        self.found = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.name().split('::')[1].split('.')[0]
        tensors = [each for each in tree_leaves(out) if isinstance(each, torch.Tensor)]
        floats = {each.dtype for each in tensors if each.is_floating_point()}
        if floats and name.removesuffix('_backward') not in LEFT_OUT:
            self.found.setdefault(name, set()).update(floats)
        return out


def build(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(copy.deepcopy(cfg.model)).train()


@pytest.mark.parametrize('dtype', ['fp32', 'fp16'])
@pytest.mark.parametrize('variant', TINY)
def test_every_mixer_trains(variant, dtype):
    """Train on images whose sides no window divides; every parameter gets a gradient in fp32."""
    with shapes_only(GPU):
        model = build(read_leaf(f'mask_rcnn_{variant}'))
        run_step(model, Size(2, 333, 517), dtype, 3, GPU)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert len(trained) > 100
        assert not [name for name, p in trained.items() if p.grad is None]
        assert {(p.grad.dtype, p.grad.device.type) for p in trained.values()} == {
            (torch.float32, 'cuda')
        }


def traced(task):
    """Return the names of the dtypes of each operator in a step of dcn_tiny in bf16."""
    with shapes_only(GPU):
        model = build(read_leaf(f'{task}_dcn_tiny'))
        with Dtypes() as dtypes:
            run_step(model, Size(2, 320, 512), 'bf16', 3, GPU)
    return {name: ', '.join(sorted(map(BITS.get, found))) for name, found in dtypes.found.items()}


def documented(task):
    """Return the cells of the task in the table of precisions, by operator."""
    lines = PAGE.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith('| Operators, bits'))
    column = [cell.strip() for cell in lines[start].split('|')].index(TASKS[task])
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith('|'):
            return found
        cells = [cell.strip() for cell in line.split('|')]
        found |= dict.fromkeys(re.findall('`(.+?)`', cells[1]) if cells[column] else (), cells[column])
    raise AssertionError('the table does not end')


@pytest.mark.parametrize('task', TASKS)
def test_precisions_are_those_of_the_docs(task):
    found = traced(task)
    backward = {name for name in found if 'backward' in name}
    assert {name: found[name] for name in found.keys() - backward} == documented(task)
    assert len(backward) > 5
    for name in backward:
        assert found[name] == found[BACKWARD.get(name, name.removesuffix('_backward'))]


def test_another_pytorch_is_refused_in_one_line(monkeypatch):
    import evaluation.memory.shapes_only as module

    monkeypatch.setattr(module, '_PRIVATE', (*module._PRIVATE, 'torch._C.gone'))
    with pytest.raises(UserError, match=r'has no torch._C.gone, which .* install PyTorch 2\.11'):
        module.check_private_parts()
    monkeypatch.undo()
    monkeypatch.setattr(module, '_PRIVATE_OF_NODES', ('_gone',))
    with pytest.raises(UserError, match='has no _gone'), shapes_only(GPU):
        pass
