"""Stage `speed`: backbones beside those of timm, whole models, and operators in two formulations."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from backbones import MIXERS
from backbones.ops import dcnv3_reference
from backbones.ops.dcnv3 import dcnv3, implementation
from evaluation.benchmark.measuring import BenchmarkPlan, run
from evaluation.benchmark.passes import Mode, Size, seconds_of
from evaluation.benchmark.speed_report import peak_fraction, spread_of
from evaluation.benchmark.subjects import ConfigSubject, PeerSubject, TimedSubject
from evaluation.config.config_files import read_config
from evaluation.config.contestants import use_backbone
from evaluation.gpu_check import flex_attention
from evaluation.gpu_check.checks import Check, Settings, SkippedCheckError
from evaluation.gpu_check.environment import QUICK_SIDE, bandwidth
from evaluation.gpu_check.suite_commands import ROOT
from evaluation.utils.devices import current

# The most important first; the rest runs if time is left.
FIRST = ('convnext', 'swin', 'dcn', 'halo', 'pvt')
# In a quick check.
QUICK_MIXERS = ('convnext', 'dcn')
PEERS = ('timm:convnext_tiny', 'timm:swin_tiny_patch4_window7_224')
# Batches of the two tasks, as on a GPU with much memory.
SIZES = {'mask_rcnn': Size(8, 800, 1280), 'upernet': Size(16, 512, 512)}
QUICK_SIZES = {'mask_rcnn': Size(1, 64, 96), 'upernet': Size(1, 64, 64)}
ROUNDS = {False: 5, True: 1}
# (B, H, W, heads, D) of stage 2 of dcn_tiny in the batch of detection.
SAMPLED = (8, 100, 160, 8, 16)
QUICK_SAMPLED = (1, 16, 20, 8, 16)
SAMPLING_REPEATS = 10


def checks(settings: Settings) -> list[Check]:
    """Return the checks of the stage, the most important first."""
    device = torch.device(settings.device)
    dtype = 'bf16' if settings.is_gpu else 'fp32'
    mixers = QUICK_MIXERS if settings.quick else FIRST
    rest = () if settings.quick else tuple(mixer for mixer in MIXERS if mixer not in FIRST)
    sizes = QUICK_SIZES if settings.quick else SIZES
    forward, training = (Mode(device, dtype, is_backward) for is_backward in (False, True))

    def rows(title: str, subjects: Callable[[], list[TimedSubject]], task: str, mode: Mode) -> Check:
        passes = 'training' if mode.backward else 'forward'
        run_rows = partial(time_rows, subjects, sizes[task], mode, settings.quick)
        return Check(f'{title}, {passes}, {dtype}, {sizes[task]}', run_rows)

    found = [
        rows('backbones', partial(backbones, task, mixers), task, mode)
        for mode in (training, forward)
        for task in sizes
    ]
    found.append(Check('dcnv3 against plain sampling', partial(time_sampling, device, settings.quick)))
    if rest:
        later = partial(backbones, 'mask_rcnn', rest)
        found += [rows('later mixers', later, 'mask_rcnn', mode) for mode in (training, forward)]
    found += flex_attention.checks(settings)
    found += [
        rows(f'{task}, whole models', partial(configs, task, mixers, False), task, forward)
        for task in sizes
    ]
    if settings.is_gpu:
        compiled = partial(backbones, 'mask_rcnn', mixers)
        found += [
            rows('compiled backbones', compiled, 'mask_rcnn', replace(mode, compiled=True))
            for mode in (training, forward)
        ]
    return found


def backbones(task: str, mixers: Sequence[str]) -> list[TimedSubject]:
    """Return the tiny backbones of a task, then timm's."""
    return [*configs(task, mixers, True), *map(PeerSubject, PEERS)]


def configs(task: str, mixers: Sequence[str], is_alone: bool) -> list[TimedSubject]:
    """Return rows for tiny mixers in the recipe of a task."""
    leaf = read_config(str(ROOT / f'configs/{task}_swin_tiny.py'))
    found = []
    for mixer in mixers:
        cfg = use_backbone(leaf, f'{mixer}_tiny')
        found.append(ConfigSubject(f'{mixer}_tiny', cfg.model, cfg.default_scope, is_alone))
    return found


def time_rows(
    subjects: Callable[[], list[TimedSubject]], size: Size, mode: Mode, is_quick: bool
) -> dict[str, dict]:
    """Return milliseconds, images per second, fraction of the peak, and memory of each row."""
    plan = BenchmarkPlan(
        subjects(), [size], mode, ROUNDS[is_quick], QUICK_SIDE if is_quick else None, seed=0
    )
    (measured,) = run(plan)
    found = {}
    for row in measured.rows:
        seconds = spread_of(row.seconds).median
        found[row.name] = {
            'milliseconds': 1000 * seconds,
            'images_per_second': size.batch / seconds,
            'fraction_of_peak': peak_fraction(row, measured, mode),
            'memory_bytes': row.memory_bytes,
            'first_pass_seconds': row.first_pass_seconds,
        }
    return found


def time_sampling(device: torch.device, is_quick: bool) -> dict[str, object]:
    """Time deformable convolution v3 and plain sampling in turn, forward and with backward.

    Raises:
        SkippedCheckError: there is no fast implementation on the device.
    """
    dtype = torch.bfloat16 if device.type == 'cuda' else torch.float32
    name = implementation(device.type, dtype)
    if name == 'reference':
        raise SkippedCheckError('no fast implementation: plain sampling is all there is')
    size = QUICK_SAMPLED if is_quick else SAMPLED
    shapes = size, (*size[:4], 9, 2), (*size[:4], 9)
    tensors = [torch.randn(shape).to(device, dtype).requires_grad_() for shape in shapes]
    copied = bandwidth(device)['gigabytes_per_second'] * 1e9
    found = {'implementation': name}
    with current(device):
        for passes, is_backward in (('forward', False), ('training', True)):
            fast, plain = timed_in_turn(tensors, is_backward, device)
            # Inputs and output are moved once. Training reads the inputs and the gradient again, and
            # writes the gradients of the inputs.
            moved = sum(tensor.nbytes for tensor in tensors) + tensors[0].nbytes
            moved *= 3 if is_backward else 1
            found[passes] = {
                'milliseconds': 1000 * fast,
                'plain_milliseconds': 1000 * plain,
                'speedup': plain / fast,
                'fraction_of_copy_bandwidth': moved / fast / copied,
            }
    return found


def timed_in_turn(
    tensors: Sequence[Tensor], is_backward: bool, device: torch.device
) -> tuple[float, float]:
    """Return the median seconds of the fast implementation and of plain sampling."""

    def once(sample: Callable[..., Tensor]) -> None:
        with torch.set_grad_enabled(is_backward):
            out = sample(*tensors, 3)
        if is_backward:
            torch.autograd.grad(out, tensors, torch.ones_like(out))

    seconds = {dcnv3: [], dcnv3_reference.forward: []}
    for repeat in range(SAMPLING_REPEATS + 1):
        for sample, times in seconds.items():
            took = seconds_of(lambda sample=sample: once(sample), device)
            if repeat:
                times.append(took)
    fast, plain = map(statistics.median, seconds.values())
    return fast, plain
