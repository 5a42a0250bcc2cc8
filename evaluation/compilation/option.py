"""The option `--compile`, and `compile` in a config, which stands for it."""

import argparse

import torch
from mmengine.config import Config

from evaluation.errors import UserError

# The first generates code; the others find out what is at fault where that fails.
BACKENDS = ('inductor', 'aot_eager', 'eager')


def add_compile_option(parser: argparse.ArgumentParser) -> None:
    """Add `--compile`."""
    parser.add_argument(
        '--compile',
        nargs='?',
        const=BACKENDS[0],
        metavar='BACKEND',
        help='run backbone, neck and heads by torch.compile; other backends than inductor find faults',
    )


def use_compiler(cfg: Config, wish: str | None) -> None:
    """Note in the config what compiles, and check that it can.

    Args:
        cfg: `compile` may be in it, as mmengine has it: True, or a dict with `backend`.
        wish: a backend from the command line, which goes before the config's.

    Raises:
        UserError: the setting is of another form, or the backend is unknown or cannot compile here.
    """
    backend = wish or configured_backend(cfg)
    if backend is None:
        return
    if backend not in BACKENDS:
        raise UserError(f'--compile {backend}: choose from {", ".join(BACKENDS)}')
    check_compiler(backend)
    cfg.compile = dict(backend=backend)


def configured_backend(cfg: Config) -> str | None:
    """What `compile` in a config asks for; None for nothing.

    Raises:
        UserError: it is of a form that is not understood.
    """
    setting = cfg.get('compile')
    if not setting:
        return None
    if setting is True:
        return BACKENDS[0]
    if isinstance(setting, dict) and setting.keys() == {'backend'}:
        return setting['backend']
    raise UserError(
        f'compile={setting!r}: give True or compile.backend=NAME alone; '
        'the other options of torch.compile are set by the suite'
    )


def check_compiler(backend: str) -> None:
    """Compile something small, so that what is missing is said before data are loaded.

    Raises:
        UserError: it cannot be compiled; the message has the reason.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.compile(lambda x: x.sin() + 1, backend=backend)(torch.ones(8, device=device))
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f'--compile: {backend} cannot compile on this machine ({reason}); it needs a C++ compiler '
            'such as g++, and Triton for a GPU; or leave --compile out'
        ) from error
