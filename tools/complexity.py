"""Print the parameters and FLOPs of configs, by part; no data or weights are needed.

    python tools/complexity.py configs/mask_rcnn_dcn_tiny.py configs/mask_rcnn_swin_tiny.py
    python tools/complexity.py configs/upernet_*.py --shape 512 512 --json complexity.json
    python tools/complexity.py configs/_base_/mask_rcnn_coco_1x.py --backbone dcn_tiny timm:resnet50
    python tools/complexity.py configs/upernet_*.py --protocol linear

Without --shape, the image has the size that the recipe states, otherwise the usual size in publications:
800x1280 (height x width) for detection, 512x2048 for segmentation.
"""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.utils.errors import CommandLine, UserError, command, warn

if TYPE_CHECKING:
    from evaluation.models.complexity import Complexity


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    from evaluation.config.overrides import add_overrides
    from evaluation.engine.protocol_options import add_protocol

    parser = CommandLine(__doc__)
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the image in pixels; default: that of the recipe or of publications',
    )
    parser.add_argument(
        '--backbone',
        nargs='+',
        metavar='NAME',
        help='count each config with each of these backbones instead of its own: scales such as '
        'dcn_tiny, timm:NAME or package.module:Class',
    )
    add_protocol(parser)
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write unrounded figures to FILE')
    add_overrides(parser)
    return parser.parse_args()


@command
def main() -> None:
    """Count parameters and FLOPs of all configs and write the table."""
    arguments = parse_arguments()
    # Some libraries print when they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        from evaluation.tables.complexity import render_complexity
        from evaluation.utils.files import json_text, write_output

        size = tuple(arguments.shape) if arguments.shape else None
        found = [
            count(config, backbone, arguments.cfg_options, size, arguments.protocol)
            for config in arguments.configs
            for backbone in arguments.backbone or [None]
        ]
        complexities = {name: complexity for name, complexity, _ in found}
        trained = {name: count for name, _, count in found if arguments.protocol}
    if arguments.json:
        figures = {
            name: complexity.as_json() | ({'trainable': trained[name]} if trained else {})
            for name, complexity in complexities.items()
        }
        write_output(arguments.json, json_text(figures).encode())
    sys.stdout.write(render_complexity(complexities, trained))


def count(
    config: str,
    backbone: str | None,
    options: dict[str, object],
    size: tuple[int, int] | None,
    protocol: str | None,
) -> tuple[str, 'Complexity', int]:
    """Count parameters and FLOPs of the model of a config file; errors name the file.

    Args:
        config: path of the config.
        backbone: name of the backbone; None for that of the config.
        options: overrides of the config.
        size: height and width of the image; None for the usual size.
        protocol: value of `--protocol`; None if the whole network trains.

    Returns:
        Path of the config, named after its backbone, the figures, and how many parameters train.

    Raises:
        UserError: the config, the backbone or an override is invalid, or cannot be counted.
    """
    from evaluation.config.contestants import open_config
    from evaluation.config.protocols import ProtocolOptions
    from evaluation.config.recipe import recipe_of
    from evaluation.models.complexity import complexity_of_config
    from evaluation.models.frozen import trainable_of_config

    cfg, warnings = open_config(config, backbone, options, ProtocolOptions(protocol))
    for warning in warnings:
        warn(warning)
    if 'model' not in cfg:
        raise UserError(f'config {config} has no model; give a config that can be trained')
    recipe = recipe_of(cfg)
    size = size or (recipe.flops_size if recipe else None)
    try:
        name = config if backbone is None and protocol is None else str(cfg.filename)
        scope = cfg.get('default_scope')
        complexity = complexity_of_config(cfg.model, scope, size)
        return name, complexity, trainable_of_config(cfg.model, scope, protocol)
    except UserError as error:
        raise UserError(f'config {config}: {error}') from error


if __name__ == '__main__':
    main()
