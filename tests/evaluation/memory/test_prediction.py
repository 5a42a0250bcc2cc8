"""Predicted memory of training steps, beside real steps on the CPU."""

import pytest
import torch

from evaluation.benchmark.passes import Size
from evaluation.engine.experiment import read_config
from evaluation.memory.prediction import measure_on_cpu, predict
from evaluation.utils.random_state import seeded
from tests.commands import ROOT

CPU = torch.device('cpu')
GPU = torch.device('cuda')
# Regions of a detector in training, a quarter with masks, and more objects than that, so that a network
# with random weights finds as many.
REGIONS = 64
OBJECTS = 20
# Kernels of the CPU allocate memory of their own, mostly in the mask head, which no operator shows.
TOLERANCE = {'mask_rcnn': 0.06, 'upernet': 0.02}
SIZES = {'mask_rcnn': Size(1, 160, 256), 'upernet': Size(2, 128, 224)}


def model_of(task, mixer, recomputes=False, scale='micro'):
    cfg = read_config(str(ROOT / f'configs/{task}_{mixer}_{scale}.py'))
    cfg.model.backbone.with_cp = recomputes
    if task == 'mask_rcnn':
        cfg.model.train_cfg.rcnn.sampler.num = REGIONS
    return cfg.model, cfg.default_scope


@pytest.mark.parametrize('recomputes', [False, True], ids=['kept', 'recomputed'])
@pytest.mark.parametrize(('task', 'mixer'), [('mask_rcnn', 'convnext'), ('upernet', 'swin')])
def test_prediction_is_near_a_real_step(task, mixer, recomputes):
    arguments = (*model_of(task, mixer, recomputes), SIZES[task], 'fp32', OBJECTS)
    predicted = predict(*arguments, device=CPU)
    with seeded(0):
        measured = measure_on_cpu(*arguments)
    assert predicted.weights == measured.weights
    assert predicted.trained == measured.trained
    assert predicted.step == pytest.approx(measured.step, rel=TOLERANCE[task])


def test_backbone_and_its_recomputation_matter():
    """In a large map they dominate, so the comparison above cannot hold by the heads alone."""
    size = Size(2, 512, 512)
    kept, recomputed = (
        predict(*model_of('upernet', 'convnext', each), size, 'fp32', 1) for each in (0, 1)
    )
    deeper = predict(*model_of('upernet', 'convnext', scale='tiny'), size, 'fp32', 1)
    assert recomputed.step < 0.9 * kept.step
    assert deeper.step > 1.2 * kept.step


def test_a_frozen_backbone_keeps_no_activations():
    arguments = (*model_of('upernet', 'convnext'), SIZES['upernet'], 'fp32', 1)
    whole, frozen = (predict(*arguments, protocol, CPU) for protocol in (None, 'frozen'))
    with seeded(0):
        measured = measure_on_cpu(*arguments, 'frozen')
    assert frozen.weights == whole.weights
    assert frozen.trained == measured.trained < whole.trained
    assert frozen.step < 0.95 * whole.step
    assert frozen.step == pytest.approx(measured.step, rel=TOLERANCE['upernet'])


def test_mixed_precision_saves_memory():
    arguments = (*model_of('upernet', 'swin'), Size(2, 256, 256))
    full, half = (predict(*arguments, dtype, 1).step for dtype in ('fp32', 'fp16'))
    assert 0.4 * full < half < 0.9 * full


def test_a_gpu_takes_the_path_of_the_cpu_where_both_save_the_same():
    arguments = (*model_of('upernet', 'convnext'), Size(2, 128, 128), 'fp32', 1)
    on_gpu, on_cpu = (predict(*arguments, device=device).step for device in (GPU, CPU))
    assert on_cpu <= on_gpu < 1.2 * on_cpu
