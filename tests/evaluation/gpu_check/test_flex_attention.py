"""FlexAttention computes the suite's operators; on the CPU it is dense, so its time is not measured."""

import functools

import pytest
import torch

from evaluation.gpu_check import flex_attention as flex_check
from evaluation.gpu_check.checks import FailedCheckError, Settings, SkippedCheckError
from evaluation.gpu_check.operators import output_and_gradients

pytest.importorskip('torch.nn.attention.flex_attention')
from torch.nn.attention import flex_attention as flex_module

from evaluation.gpu_check import flex_formulations

pytestmark = pytest.mark.filterwarnings('ignore:flex_attention called without torch.compile')
CPU = torch.device('cpu')
# Maps with cut tiles on both sides, whole tiles, and the smallest window of neighborhood attention.
SIZES = [(17, 23), (14, 8), (7, 9)]
LAYOUTS = {
    'halo': lambda *size: flex_formulations.halo_layout(*size, 7, 3, CPU),
    'nat': lambda *size: flex_formulations.neighborhood_layout(*size, 7, CPU),
}


@pytest.fixture
def backward_on_cpu(monkeypatch):
    """Permit gradients on the CPU, which the formulas support and the public function refuses."""
    if not hasattr(flex_module, '_validate_device'):
        pytest.skip('this PyTorch checks the device elsewhere')
    monkeypatch.setattr(flex_module, '_validate_device', lambda *_: None)


def contest_of(name, size, dtype=torch.float64, heads=3, dim=20):
    """Return a contest and tensors."""
    build, _ = flex_check.CONTESTS[name]
    contest = build(*size, heads, dim, CPU)
    return contest, flex_check.inputs(contest, (2, *size, heads, dim), CPU, dtype)


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('name', flex_check.CONTESTS)
def test_outputs_are_those_of_our_operator(name, size):
    contest, tensors = contest_of(name, size)
    torch.testing.assert_close(contest.flex(*tensors), contest.ours(*tensors))


@pytest.mark.usefixtures('backward_on_cpu')
@pytest.mark.parametrize('name', flex_check.CONTESTS)
def test_gradients_are_those_of_our_operator(name):
    contest, tensors = contest_of(name, SIZES[0])
    found, truth = (output_and_gradients(each, tensors) for each in (contest.flex, contest.ours))
    torch.testing.assert_close(found, truth)


@pytest.mark.usefixtures('backward_on_cpu')
@pytest.mark.parametrize('name', flex_check.CONTESTS)
def test_errors_in_bf16_are_within_the_bound(name):
    contest, tensors = contest_of(name, (24, 37), torch.bfloat16, heads=2, dim=32)
    found, truth = (output_and_gradients(each, tensors) for each in (contest.flex, contest.ours))
    figures = flex_check.compared(found, truth)
    assert figures['error'] < 0.5 * figures['bound']


@pytest.mark.parametrize('block', [64, 128])
@pytest.mark.parametrize('size', [*SIZES, (40, 33)], ids=str)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_blocks_have_all_pairs_of_the_mask(layout, size, block):
    """On the CPU only the mask of pairs matters; a GPU skips blocks that are not listed."""
    layout = LAYOUTS[layout](*size)
    mask = layout.block_mask(block)
    length = len(layout.rows)
    pairs = flex_module.create_mask(mask.mask_mod, None, None, length, length, CPU)[0, 0]
    # Results of places without a token are dropped.
    exists = layout.rows < flex_formulations.NOWHERE
    pairs &= exists[:, None]
    blocks = pairs.view(length // block, block, length // block, block).any(3).any(1)
    listed = mask.to_dense()[0, 0].bool()
    assert listed[blocks].all()
    assert listed.sum(1).max() <= {64: 9, 128: 12}[block]
    assert (pairs.sum(1)[exists] > 0).all()


def test_skipped_on_the_cpu(tmp_path):
    for quick in (False, True):
        for check in flex_check.checks(Settings('cpu', quick, tmp_path)):
            with pytest.raises(SkippedCheckError, match='dense without a GPU'):
                check.run()


@pytest.mark.usefixtures('backward_on_cpu')
@pytest.mark.parametrize('name', flex_check.CONTESTS)
def test_both_formulations_are_timed(name, monkeypatch):
    """Traced as on a GPU, but without generated code."""
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='aot_eager'))
    monkeypatch.setattr(flex_check, 'REPEATS', 1)
    found = flex_check.time_both(*contest_of(name, (8, 9), torch.float32), CPU)
    for passes in ('forward', 'training'):
        figures = found[passes]
        ratio = figures['milliseconds'] / figures['flex_milliseconds']
        assert figures['speedup'] == pytest.approx(ratio)
    assert found['error'] < 1e-5


def test_different_results_fail():
    contest, tensors = contest_of('halo', (8, 9))
    truth = [contest.ours(*tensors), *tensors]
    wrong = [truth[0] * 1.1, *tensors]
    with pytest.raises(FailedCheckError, match='error of output'):
        flex_check.compared(wrong, truth)


@pytest.mark.parametrize(('speedups', 'is_adopted'), [((1.3, 1.2), True), ((1.3, 1.1), False)])
def test_adopted_if_faster_at_every_size(speedups, is_adopted, tmp_path, monkeypatch):
    times = iter(speedups)
    monkeypatch.setattr(flex_check, 'check_compiles', lambda _: None)
    monkeypatch.setattr(flex_check, 'MAPS', {'stage 1': (1, 14, 16), 'stage 2': (1, 7, 8)})
    monkeypatch.setattr(flex_check, 'time_both', lambda *_: {'training': {'speedup': next(times)}})
    for check in flex_check.checks(Settings('cpu', False, tmp_path))[:1]:
        found = check.run()
    assert found['is_adopted'] is is_adopted
    assert found['least_speedup'] == min(speedups)
