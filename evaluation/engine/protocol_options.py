"""Options `--protocol`, `--fraction` and `--fraction-seed`, and what checkpoints state about them."""

import argparse
from pathlib import Path

from backbones import BackboneError
from backbones.checkpoint import read_checkpoint
from evaluation.config.config_text import read_literals
from evaluation.config.protocols import ProtocolOptions, stated_in
from evaluation.data.fractions import FILE, read_list
from evaluation.tasks import PROTOCOLS
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
        return ProtocolOptions()
    try:
        meta = read_checkpoint(source).get('meta')
    except (BackboneError, OSError):
        return ProtocolOptions()
    text = meta.get('cfg') if isinstance(meta, dict) else None
    recipe = read_literals(text).get('recipe') if isinstance(text, str) else None
    return stated_in(recipe, f'the config in {source}: recipe')
