"""What a training needs beside a step, and the cards that it fits on."""

import pytest

from evaluation.benchmark.passes import Size
from evaluation.memory.budget import GB, TrainingMemory, training_memory
from evaluation.memory.prediction import StepMemory
from evaluation.memory.report import END, START, fitting, render, write_docs
from evaluation.memory.variants import ConfigMemory
from tests.refusals import refusal

STEP = StepMemory(weights=110, trained=100, step=1000)


def config(optimizer='AdamW', **settings):
    return {'optim_wrapper': {'optimizer': {'type': optimizer, **settings}}}


def test_adamw_on_several_gpus():
    found = training_memory(STEP, config(), gpus=8)
    assert (found.weights, found.moments, found.buckets, found.average) == (110, 200, 100, 0)
    assert found.lasting == 410
    assert found.total == 1410
    assert found.needed == pytest.approx(1.1 * 1410 + 1.5 * GB)


def test_one_gpu_has_no_buckets():
    assert training_memory(STEP, config(), gpus=1).lasting == 310


@pytest.mark.parametrize(
    ('optimizer', 'moments'),
    [
        (config('SGD', momentum=0.9), 100),
        (config('SGD'), 0),
        (config('SGD', momentum=0), 0),
        (config('AdamW', amsgrad=True), 300),
        (config('Unknown'), 200),
        ({}, 200),
    ],
)
def test_moments(optimizer, moments):
    assert training_memory(STEP, optimizer, gpus=1).moments == moments


def test_the_step_of_the_optimizer_may_be_the_peak():
    small = StepMemory(weights=110, trained=100, step=150)
    # Gradients, and a temporary value for each.
    assert training_memory(small, config(), gpus=1).total == 310 + 200


def test_moving_average():
    hooks = {'custom_hooks': [{'type': 'EMAHook', 'momentum': 1e-4}, {'type': 'Other'}]}
    assert training_memory(STEP, {**config(), **hooks}, gpus=1).average == 110
    assert training_memory(STEP, {**config(), **hooks}, gpus=1).lasting == 420


def test_gradients_that_accumulate_exist_throughout():
    cfg = config()
    cfg['optim_wrapper']['accumulative_counts'] = 4
    assert training_memory(STEP, cfg, gpus=1).step == 1100


def memory(gigabytes):
    """Return the memory of a training whose tensors have a size at the peak."""
    return TrainingMemory(0, 0, 0, 0, int(gigabytes * GB), 0)


def test_a_card_needs_a_tenth_and_the_context_more():
    size = Size(2, 64, 64)
    # 1.1 x 13.18 + 1.5 = 15.998, and 1.1 x 13.19 + 1.5 = 16.009.
    assert fitting(ConfigMemory(size, {'fp32': memory(13.18)}), 16) == 'fp32'
    both = ConfigMemory(size, {'fp32': memory(13.19), 'amp': memory(9.0)})
    assert fitting(both, 16) == 'amp'
    assert fitting(both, 24) == 'fp32'
    assert fitting(ConfigMemory(size, {'fp32': memory(80.0)}), 80) is None


def test_rows_show_what_fits_and_what_a_backbone_lacks():
    text = render({'large': ConfigMemory(Size(1, 8, 8), {'fp32': memory(30.0)})}, 8, 7)
    (row,) = (line for line in text.splitlines() if line.startswith('| large'))
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells == ['large', '0.0', '30.0', '–', '–', '–', 'no', 'no', 'fp32', 'fp32']


def test_page(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(f'before\n{START}\nold\n{END}\nafter\n')
    write_docs(None, page)
    assert 'old' in page.read_text()
    write_docs('new\n', page)
    assert page.read_text() == f'before\n{START}\nnew\n{END}\nafter\n'
    page.write_text(f'{END}\n{START}\n')
    assert 'has no <!-- training memory -->' in refusal(write_docs, 'new\n', page)
    assert 'cannot be read' in refusal(write_docs, 'new\n', tmp_path / 'missing.md')
    assert 'cannot be read' in refusal(write_docs, None, tmp_path)
