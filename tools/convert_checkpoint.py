"""Extract the backbone of a checkpoint to a clean file.

    python tools/convert_checkpoint.py work_dirs/mask_rcnn_dcn_tiny/epoch_12.pth dcn_tiny.safetensors
    python tools/convert_checkpoint.py unified_swin_tiny.pth swin_tiny.pth --names suite

No code in the checkpoint is run. Prints the weights that were omitted.
"""

import argparse
from pathlib import Path

from evaluation.utils.errors import CommandLine, UserError, command


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    from backbones.checkpoint import WEIGHT_KEYS

    parser = CommandLine(__doc__)
    parser.add_argument(
        'source', help='path or URL of ImageNet weights or of a whole model, in any layout'
    )
    parser.add_argument('target', type=Path, help='file to write, .pth or .safetensors')
    parser.add_argument(
        '--names',
        choices=['suite', 'released'],
        default='suite',
        help='weight names of the suite or of the released checkpoints; default: suite',
    )
    parser.add_argument('--config', help='config with the backbone, if its scale is not a published one')
    parser.add_argument(
        '--checkpoint-key', choices=WEIGHT_KEYS, help='weights to use if the file has several'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    return parser.parse_args()


@command
def main() -> None:
    """Convert the checkpoint and print a summary."""
    arguments = parse_arguments()
    check_target(arguments.target, arguments.overwrite)
    from evaluation.engine.conversion import convert, file_content
    from evaluation.engine.experiment import backbone_errors_reported
    from evaluation.utils.files import write_output

    with backbone_errors_reported():
        conversion = convert(arguments.source, arguments.config, arguments.checkpoint_key)
    content = file_content(conversion, arguments.target, arguments.names == 'released')
    write_output(arguments.target, content)
    print(f'{arguments.source}: {conversion.report}')
    print('\n  '.join(['omitted:', *(conversion.left_out or ['nothing'])]))
    print(
        f'written: {arguments.target} ({len(content) / 1e6:.1f} MB, {len(conversion.weights)} tensors)'
    )


def check_target(target: Path, overwrite: bool) -> None:
    """Check that the file can be written, before anything is read.

    Raises:
        UserError: the suffix is unsupported, the folder is missing, or the file exists.
    """
    if target.suffix not in ('.pth', '.safetensors'):
        raise UserError(f'{target} must end in .pth or .safetensors; give another name')
    if not target.resolve().parent.is_dir():
        raise UserError(f'the folder of {target} does not exist; create it, or give another name')
    if target.exists() and not overwrite:
        raise UserError(f'{target} already exists; give another name, or use --overwrite')


if __name__ == '__main__':
    main()
