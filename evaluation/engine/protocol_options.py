"""Options `--protocol`, `--fraction` and `--fraction-seed`, and what checkpoints state about them."""

import argparse
from pathlib import Path

from mmengine.config import Config

from backbones import BackboneError
from backbones.checkpoint import read_checkpoint
from evaluation.config.config_text import read_literals
from evaluation.config.protocols import NO_PROTOCOL, ProtocolOptions, stated_in
from evaluation.data.fractions import FILE, read_list
from evaluation.tasks import PROTOCOLS, stated_by_command
from evaluation.utils.errors import UserError
from evaluation.utils.formats import whole

DEFAULT_SEED = 0


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """Add the option `--protocol`."""
    parser.add_argument(
        '--protocol',
        choices=PROTOCOLS,
        help='train only neck and heads on a frozen backbone, or a linear segmentation head; default: '
        'the whole network',
    )


def add_protocol_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the commands that train."""
    add_protocol(parser)
    parser.add_argument(
        '--fraction',
        type=fraction_or_list,
        metavar='F',
        help=f'train on this share of the images, such as 0.1, or on the list in {FILE} of another run',
    )
    parser.add_argument(
        '--fraction-seed',
        type=whole,
        metavar='N',
        help=f'seed of the list of images; default {DEFAULT_SEED}',
    )


def fraction_or_list(text: str) -> float | Path:
    """Parse a number between 0 and 1, or the path of a list of images.

    Raises:
        argparse.ArgumentTypeError: the text is neither.
    """
    try:
        number = float(text)
    except ValueError:
        if Path(text).is_file():
            return Path(text)
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither a number between 0 and 1 nor a file'
        ) from None
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(
            f'{text} is not between 0 and 1; omit it to train on all images'
        )
    return number


def options_of(arguments: argparse.Namespace) -> ProtocolOptions:
    """Return what the options of a command state.

    Raises:
        UserError: a seed is given without a fraction or beside a list, or the list cannot be read.
    """
    fraction, seed = arguments.fraction, arguments.fraction_seed
    if fraction is None and seed is not None:
        raise UserError('--fraction-seed needs --fraction; give both, such as --fraction 0.1')
    if isinstance(fraction, Path):
        if seed is not None:
            raise UserError(f'--fraction {fraction} states its own seed; remove --fraction-seed')
        stated = read_list(fraction)
        return ProtocolOptions(arguments.protocol, stated.fraction, stated.fraction_seed, fraction)
    if fraction is not None and seed is None:
        seed = DEFAULT_SEED
    return ProtocolOptions(arguments.protocol, fraction, seed)


def stated_by_checkpoint(source: str | None) -> ProtocolOptions:
    """Return the protocol and the fraction that a checkpoint was trained with.

    Args:
        source: path or URL; None without a checkpoint. One that cannot be read states nothing: the error
            is reported when its weights are read.

    Raises:
        UserError: it states an invalid value.
    """
    if source is None:
        return NO_PROTOCOL
    try:
        content = read_checkpoint(source)
    except (BackboneError, OSError):
        return NO_PROTOCOL
    return stated_in(_stored_config(content).get('recipe'), f'the config in {source}: recipe')


def check_stated(cfg: Config, content: dict, source: str) -> None:
    """Check that a config states the protocol and the fraction that a checkpoint was trained with.

    Args:
        cfg: config of the test.
        content: content of the checkpoint; one without a config fits any.
        source: path or URL of the checkpoint, for messages.

    Raises:
        UserError: the config states one that the checkpoint does not, so the result would claim it.
    """
    stored = _stored_config(content)
    theirs = stated_by_command(stored.get('recipe'))
    for fact, value in stated_by_command(cfg.get('recipe')).items():
        if stored and fact not in theirs:
            raise UserError(
                f'config {cfg.filename} states {fact}={value!r}, but {source} was trained without; give '
                'the config that it was trained with'
            )


def _stored_config(content: dict) -> dict:
    """Return the config in a checkpoint; empty if it has none."""
    meta = content.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    return read_literals(text) if isinstance(text, str) else {}
