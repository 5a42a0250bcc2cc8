"""Command line of `tools/sweep.py`."""

import argparse
from pathlib import Path

from evaluation.config.overrides import add_overrides
from evaluation.engine.protocol_options import add_protocol_options, options_of
from evaluation.sweep.executors import SlurmWishes, check_slurm, minutes_of
from evaluation.sweep.runs import Wishes
from evaluation.utils.errors import CommandLine, UserError
from evaluation.utils.formats import whole

ROOT = 'work_dirs/sweep'
EXECUTORS = ('local', 'slurm')
# Options passed on to `tools/train.py`; they change what is computed.
FLAGS = {
    'deterministic': 'use only deterministic algorithms; slower',
    'amp': 'train with mixed precision (GPU)',
    'auto_scale_lr': 'scale the learning rate with the batch size',
}
SLURM_ONLY = ('partition', 'time', 'nodes', 'requeue', 'cpus_per_gpu', 'slurm_options')


def add_arguments(parser: CommandLine) -> None:
    """Add the options of the command."""
    parser.add_argument(
        'patterns', nargs='+', metavar='PATTERN', help="configs, such as 'configs/mask_rcnn_*_tiny.py'"
    )
    parser.add_argument(
        '--backbones',
        nargs='+',
        default=[],
        metavar='NAME',
        help='run each config with each of these backbones instead of its own: scales such as dcn_tiny, '
        'timm:NAME or package.module:Class',
    )
    parser.add_argument(
        '--seeds',
        type=whole,
        nargs='+',
        metavar='N',
        help="random seeds; default: each config's seed, or 0",
    )
    parser.add_argument(
        '--work-dir', default=ROOT, metavar='ROOT', help=f'output folder; default {ROOT}'
    )
    parser.add_argument(
        '--test-only',
        metavar='DIR',
        help="test each config's checkpoints in this folder, without training",
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='print what would be done and why, without doing it'
    )
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        help='GPUs per job and machine, or processes if there are no GPUs; default 1',
    )
    parser.add_argument(
        '--parallel', type=int, metavar='N', help='number of jobs at a time; default: as many as fit'
    )
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help='root folder of the data, or a folder with several of them, named as in the configs',
    )
    parser.add_argument(
        '--pretrained',
        metavar='CHECKPOINT',
        help='initial weights: `released`, or a path or URL, in which {name}, {mixer}, {scale} and '
        '{seed} are replaced by those of the run; default: from scratch',
    )
    add_protocol_options(parser)
    for name, text in FLAGS.items():
        parser.add_argument(f'--{name.replace("_", "-")}', action='store_true', help=text)
    add_overrides(parser)
    parser.add_argument(
        '--executor', type=_executor, default='local', metavar='{local,slurm}', help='default: local'
    )
    add_slurm_arguments(parser)


def add_slurm_arguments(parser: CommandLine) -> None:
    """Add the options that need `--executor slurm`."""
    slurm = parser.add_argument_group('with --executor slurm')
    slurm.add_argument(
        '--time', metavar='LIMIT', help='time limit of one job, as for sbatch: 8:00:00, 2-0, minutes'
    )
    slurm.add_argument('--partition', help="default: the cluster's default")
    slurm.add_argument('--nodes', type=int, metavar='N', help='machines per job; default 1')
    slurm.add_argument(
        '--requeue',
        type=int,
        metavar='N',
        help='requeue a job when its time ends, at most N times; default 0',
    )
    slurm.add_argument('--cpus-per-gpu', type=int, metavar='N', help='CPU cores per GPU; default 5')
    slurm.add_argument(
        '--slurm-options',
        nargs='+',
        metavar='NAME=VALUE',
        help='further options of sbatch, such as account=vision',
    )


def wishes_of(arguments: argparse.Namespace) -> Wishes:
    """Return the options that apply to every run.

    Raises:
        UserError: a number is invalid, or an option conflicts with --test-only.
    """
    _check_number('gpus', arguments.gpus, least=0)
    _check_number('parallel', arguments.parallel, least=1)
    _check_number('nodes', arguments.nodes, least=1)
    flags = tuple(f'--{name.replace("_", "-")}' for name in FLAGS if getattr(arguments, name))
    of_training = [*flags, *(['--pretrained'] if arguments.pretrained else [])]
    if arguments.test_only is not None and of_training:
        raise UserError(f'{of_training[0]} applies to training only; remove it, or remove --test-only')
    return Wishes(
        root=Path(arguments.work_dir),
        processes=max(1, arguments.gpus) * (arguments.nodes or 1),
        data_root=arguments.data_root,
        pretrained=arguments.pretrained,
        flags=flags,
        options=arguments.cfg_options,
        protocol=options_of(arguments),
    )


def slurm_wishes(arguments: argparse.Namespace) -> SlurmWishes | None:
    """Return the resources to request from Slurm; None without it.

    Raises:
        UserError: an option is missing, invalid or useless without Slurm, or Slurm is not installed.
    """
    given = [name for name in SLURM_ONLY if getattr(arguments, name) is not None]
    if arguments.executor != 'slurm':
        if given:
            option = f'--{given[0].replace("_", "-")}'
            raise UserError(f'{option} is only for Slurm; add --executor slurm, or remove it')
        return None
    if arguments.time is None:
        raise UserError('--executor slurm needs --time, the limit of one job, such as --time 8:00:00')
    try:
        minutes = minutes_of(arguments.time)
    except ValueError:
        raise UserError(
            f'--time is {arguments.time!r}; give hours:minutes:seconds, such as 8:00:00'
        ) from None
    _check_number('requeue', arguments.requeue, least=0)
    _check_number('cpus-per-gpu', arguments.cpus_per_gpu, least=1)
    check_slurm()
    others = dict(_name_and_value(text) for text in arguments.slurm_options or [])
    return SlurmWishes(
        minutes=minutes,
        gpus=arguments.gpus,
        nodes=arguments.nodes or 1,
        cpus=arguments.cpus_per_gpu or 5,
        partition=arguments.partition,
        requeue=arguments.requeue or 0,
        parallel=arguments.parallel,
        others=others,
    )


def _executor(name: str) -> str:
    # `choices` would word its error differently in each version of Python.
    if name not in EXECUTORS:
        raise argparse.ArgumentTypeError(f'unknown executor {name!r}; choose {" or ".join(EXECUTORS)}')
    return name


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not name or not equals:
        raise UserError(f'--slurm-options: {text!r} is invalid; give NAME=VALUE, such as account=vision')
    return name, value


def _check_number(option: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UserError(f'--{option} is {value}; give an integer of at least {least}')
