"""The check of operators and of backbones: every operator passes on the CPU, a wrong one does not."""

import dataclasses

import pytest
import torch

from backbones import MIXERS
from evaluation.gpu_check import backbone_outputs, operators, speed
from evaluation.gpu_check.checks import FailedCheckError, Settings, SkippedCheckError

CPU = torch.device('cpu')
CASES = {case.name: case for case in operators.cases((1, 15, 17))}


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('is_strided', [False, True], ids=['contiguous', 'strided'])
def test_operators_pass(name, is_strided):
    found = operators.compare(CASES[name], CPU, 'fp32', is_strided)
    assert found['error'] < 1e-5


@pytest.mark.parametrize('name', CASES)
def test_wrong_operators_fail(name):
    """An operator that is wrong only in float32, in its output or in one gradient."""
    case = CASES[name]

    def wrong_output(*tensors):
        out = case.compute(*tensors)
        return out if out.dtype == torch.float64 else out * 1.01

    def wrong_gradient(*tensors):
        first, *rest = tensors
        if first.dtype != torch.float64:
            first = first.detach() + 0.99 * (first - first.detach())
        return case.compute(first, *rest)

    for compute, what in ((wrong_output, 'output|'), (wrong_gradient, next(iter(case.tensors)))):
        wrong = dataclasses.replace(case, compute=compute)
        with pytest.raises(FailedCheckError, match=f'error of {what}'):
            operators.compare(wrong, CPU, 'fp32')


def test_inputs_avoid_kinks_of_sampling():
    case = CASES['dcnv3']
    _, offsets, _ = operators.inputs(case, CPU, torch.bfloat16, is_strided=False)
    assert offsets.dtype == torch.bfloat16
    assert not (offsets == offsets.round()).any()


def test_strided_inputs_are_not_contiguous():
    for tensor in operators.inputs(CASES['dcnv3'], CPU, torch.float32, is_strided=True):
        assert not tensor.is_contiguous()


def test_half_precision_without_instructions_is_skipped():
    with pytest.raises(SkippedCheckError, match='fp16'):
        operators.compare(CASES['dcnv3'], CPU, 'fp16')


@pytest.mark.parametrize('mixer', ['convnext', 'dcn'])
def test_backbones_are_compared_with_plain_pytorch(mixer):
    found = backbone_outputs.compare(f'{mixer}_micro', CPU, 'fp32')
    # The fast path differs from plain PyTorch in roundings.
    assert 0 < found['error'] < 1e-4


def test_every_mixer_is_checked_and_timed(tmp_path):
    for quick in (False, True):
        names = [check.name for check in backbone_outputs.checks(Settings('cpu', quick, tmp_path))]
        for mixer in MIXERS:
            assert f'{mixer}_micro, fp32' in names
    rows = [subject.name for subject in speed.configs('mask_rcnn', MIXERS, True)]
    assert rows == [f'{mixer}_tiny' for mixer in MIXERS]


def test_operators_of_mmcv_pass():
    assert backbone_outputs.compare_mmcv(CPU)['error'] == 0


def test_sampling_is_timed_both_ways():
    found = speed.time_sampling(CPU, is_quick=True)
    assert found['implementation'] == 'numba'
    for passes in ('forward', 'training'):
        figures = found[passes]
        ratio = figures['plain_milliseconds'] / figures['milliseconds']
        assert figures['speedup'] == pytest.approx(ratio)
        assert figures['fraction_of_copy_bandwidth'] > 0
