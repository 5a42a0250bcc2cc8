"""Stage `processes`: two processes share the device; SyncBN and an evaluation equal one process.

NCCL refuses two processes on one GPU, so they communicate by gloo.
"""

import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from evaluation.engine.checkpoints import last_checkpoint
from evaluation.gpu_check.checks import (
    Check,
    FailedCheckError,
    Settings,
    SkippedCheckError,
    check_errors,
    named,
)
from evaluation.gpu_check.suite_commands import latest_result, run
from evaluation.gpu_check.trainings import METRIC_BOUND, MODELS, arguments_of, folder_of

PROCESSES = 2
CHANNELS = 16
BOUND = 1e-5
PORT = 29517


def checks(settings: Settings) -> list[Check]:
    """Return the checks of the stage."""
    task, mixer = MODELS[0]
    return [
        Check('SyncBN', partial(synchronized_norms, settings)),
        Check('evaluation', partial(evaluate, settings, task, mixer)),
    ]


def synchronized_norms(settings: Settings) -> dict[str, object]:
    """Compare SyncBN on two halves of a batch with batch norm on the whole batch.

    Raises:
        FailedCheckError: outputs, gradients or running statistics differ.
        SkippedCheckError: the device is a CPU.
    """
    if not settings.is_gpu:
        raise SkippedCheckError("PyTorch's SyncBN needs a GPU")
    images = torch.randn(2 * PROCESSES, CHANNELS, 9, 11)
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        store = Path(folder, 'store').as_uri()
        arguments = (store, settings.device, images, folder)
        multiprocessing.spawn(_half_of_the_batch, arguments, nprocs=PROCESSES)
        halves = [torch.load(Path(folder, f'{rank}.pt')) for rank in range(PROCESSES)]
    whole = norm_figures(nn.BatchNorm2d(CHANNELS).to(settings.device), images.to(settings.device))
    names = ['output', 'gradient', 'running mean', 'running variance']
    joined = [torch.cat([half[i] for half in halves]) for i in range(2)] + halves[0][2:]
    return check_errors(named(names, joined, whole), BOUND)


def _half_of_the_batch(rank: int, store: str, device: str, images: Tensor, folder: str) -> None:
    dist.init_process_group('gloo', init_method=store, rank=rank, world_size=PROCESSES)
    norm = nn.SyncBatchNorm(CHANNELS).to(device)
    figures = norm_figures(norm, images.chunk(PROCESSES)[rank].to(device))
    torch.save(figures, Path(folder, f'{rank}.pt'))
    dist.destroy_process_group()


def norm_figures(norm: nn.Module, images: Tensor) -> list[Tensor]:
    """Return output, gradient of the images, and running statistics after a step, on the CPU."""
    images.requires_grad_()
    out = norm(images)
    (gradient,) = torch.autograd.grad(out.sin().sum(), images)
    return [each.detach().cpu() for each in (out, gradient, norm.running_mean, norm.running_var)]


def evaluate(settings: Settings, task: str, mixer: str) -> dict[str, object]:
    """Evaluate the weights of the fp32 training in two processes, and compare the metrics.

    Raises:
        FailedCheckError: a metric differs.
        SkippedCheckError: there are no weights.
    """
    trained = folder_of(settings, task, mixer, 'fp32')
    checkpoint = last_checkpoint(trained)
    if checkpoint is None:
        raise SkippedCheckError('needs the weights of the stage `training`')
    folder = folder_of(settings, task, mixer, 'evaluation_in_two_processes')
    config, *rest = arguments_of(settings, task, mixer)
    command = ['-m', 'torch.distributed.run', f'--nproc_per_node={PROCESSES}']
    command += [f'--master_port={PORT}', 'tools/test.py', config, str(checkpoint)]
    command += ['--work-dir', str(folder), '--launcher', 'pytorch', *rest]
    run(command, folder / 'output.log', settings)
    alone, shared = (latest_result(each)['metrics'] for each in (trained, folder))
    for name, value in shared.items():
        if abs((value or 0) - (alone[name] or 0)) > METRIC_BOUND:
            raise FailedCheckError(f'{name} is {value} in two processes, {alone[name]} in one')
    return {name: {'one': alone[name], 'two': value} for name, value in shared.items()}
