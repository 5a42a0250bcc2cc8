"""Predict the memory of training steps, and the cards they fit on; no GPU, data or weights are needed.

    python tools/memory.py configs/mask_rcnn_dcn_tiny.py configs/upernet_dcn_base.py
    python tools/memory.py configs/_base_/mask_rcnn_coco_1x.py --backbone swin_tiny timm:resnet50
    python tools/memory.py configs/upernet_swin_base.py --batch 4 --shape 640 640 --gpus 1
    python tools/memory.py configs/upernet_swin_base.py --protocol frozen

Without --shape and --batch, the batch is the largest one of the config's training on each GPU.
"""

import argparse
import contextlib
import sys
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.utils.errors import CommandLine, UserError, command, warn
from evaluation.utils.formats import positive, whole

if TYPE_CHECKING:
    from mmengine.config import Config

    from evaluation.benchmark.passes import Size

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs/training.md'
RECIPES = ('mask_rcnn', 'upernet')
# Scales on the page; one that a mixer does not have is omitted.
SCALES_ON_PAGE = {
    'tiny': None,
    'small': ('convnext', 'dcn', 'swin'),
    'base': ('convnext', 'dcn', 'swin'),
}
# More than on any but the most crowded images of COCO.
OBJECTS = 100
GPUS = 8
# Each image and each object takes time, also without values.
MOST_IMAGES, MOST_OBJECTS, LONGEST_SIDE = 1024, 1000, 16384


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: an option is unknown or has an invalid value, or there is no config.
    """
    from evaluation.config.overrides import add_overrides
    from evaluation.engine.protocol_options import add_protocol

    parser = CommandLine(__doc__)
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='config files')
    parser.add_argument(
        '--backbone',
        nargs='+',
        default=[],
        metavar='NAME',
        help='use each of these backbones instead of that of the config: scales such as dcn_tiny, '
        'timm:NAME or package.module:Class',
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=partial(whole, least=1, most=LONGEST_SIDE),
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images in pixels; default: the largest of the training pipeline, padded',
    )
    parser.add_argument(
        '--batch',
        type=partial(whole, least=1, most=MOST_IMAGES),
        metavar='N',
        help="images on each GPU; default: the config's",
    )
    parser.add_argument(
        '--gpus',
        type=positive,
        default=GPUS,
        metavar='N',
        help=f'GPUs that train together; default {GPUS}',
    )
    parser.add_argument(
        '--objects',
        type=partial(whole, least=1, most=MOST_OBJECTS),
        default=OBJECTS,
        metavar='N',
        help=f'objects on each image, for detectors; default {OBJECTS}',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write all bytes to FILE')
    parser.add_argument(
        '--write-docs',
        action='store_true',
        help="write the tables of the suite's own configs into docs/training.md",
    )
    add_protocol(parser)
    add_overrides(parser)
    arguments = parser.parse_args()
    if arguments.write_docs:
        if differs_from_docs(arguments):
            raise UserError(
                "--write-docs is for the suite's own configs; omit configs and other options"
            )
        arguments.configs = configs_on_page()
    if not arguments.configs:
        raise UserError('the following arguments are required: CONFIG; --help lists the options')
    if config := next((name for name in arguments.backbone if name.endswith('.py')), None):
        raise UserError(f'--backbone {config} is a config; give the configs first, then --backbone')
    return arguments


def differs_from_docs(arguments: argparse.Namespace) -> bool:
    """Return whether configs or options are given that would change the tables of the documentation."""
    given = ('configs', 'backbone', 'shape', 'batch', 'protocol', 'cfg_options')
    changed = arguments.gpus != GPUS or arguments.objects != OBJECTS
    return changed or any(getattr(arguments, name) for name in given)


def configs_on_page() -> list[str]:
    """Return the configs of the tables in the documentation."""
    found = []
    for recipe, (scale, mixers) in product(RECIPES, SCALES_ON_PAGE.items()):
        for file in sorted((ROOT / 'configs').glob(f'{recipe}_*_{scale}.py')):
            mixer = file.stem.removeprefix(f'{recipe}_').removesuffix(f'_{scale}')
            if not mixer.startswith('original') and (mixers is None or mixer in mixers):
                found.append(str(file))
    return found


@command
def main() -> None:
    """Predict the memory of all configs and write the tables."""
    arguments = parse_arguments()
    # Some libraries print when they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        from tqdm import tqdm

        from evaluation.memory.report import render, write_docs
        from evaluation.memory.variants import memory_of_config
        from evaluation.utils.files import check_output, json_text, write_output

        # Find invalid input before any work is done.
        if arguments.json:
            check_output(arguments.json)
        if arguments.write_docs:
            write_docs(None, PAGE)
        trainings = {}
        for config, backbone in product(arguments.configs, arguments.backbone or [None]):
            name, training = open_training(config, backbone, arguments)
            # Configs in different folders may share a name.
            trainings[name if name not in trainings else config.removesuffix('.py')] = training
        found = {}
        for name, (cfg, size) in tqdm(trainings.items(), unit='config', leave=False, disable=None):
            try:
                found[name] = memory_of_config(cfg, size, arguments.gpus, arguments.objects)
            except UserError as error:
                raise UserError(f'config {cfg.filename}: {error}') from error
    if arguments.json:
        write_output(arguments.json, json_text({n: asdict(m) for n, m in found.items()}).encode())
    text = render(found, arguments.gpus, arguments.objects)
    if arguments.write_docs:
        write_docs(text, PAGE)
    sys.stdout.write(text)


def open_training(
    config: str, backbone: str | None, arguments: argparse.Namespace
) -> tuple[str, tuple['Config', 'Size']]:
    """Read and check a config file; errors name the file.

    Args:
        config: path of the config.
        backbone: name of the backbone; None for that of the config.
        arguments: the command line.

    Returns:
        Name of the row, and the config and the size of its batch.

    Raises:
        UserError: the config, the backbone or an override is invalid.
    """
    from evaluation.config.contestants import open_config
    from evaluation.config.protocols import ProtocolOptions
    from evaluation.memory.budget import MOMENTS
    from evaluation.memory.training_size import training_size
    from evaluation.memory.variants import check_model

    protocol = ProtocolOptions(arguments.protocol)
    cfg, warnings = open_config(config, backbone, arguments.cfg_options, protocol)
    for warning in warnings:
        warn(warning)
    if 'model' not in cfg:
        raise UserError(f'config {config} has no model; give a config that can be trained')
    size = training_size(cfg, arguments.shape, arguments.batch)
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    if 'type' in optimizer and optimizer['type'] not in MOMENTS:
        warn(f'config {config}: {optimizer["type"]} is taken to need as much memory as AdamW')
    try:
        check_model(cfg)
    except UserError as error:
        raise UserError(f'config {config}: {error}') from error
    return Path(cfg.filename).stem, (cfg, size)


if __name__ == '__main__':
    main()
