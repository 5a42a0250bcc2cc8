"""Choose mixers and their options on the command line."""

import pytest

from tests.commands import ROOT

KIND = 'Configs and options'
LEAF = str(ROOT / 'configs/upernet_swin_tiny.py')
# An invalid option of each later mixer that has one, and part of the message.
INVALID = {
    'nat': ("mixer={'type': 'nat', 'num_heads': 1, 'kernel_size': 6}", 'kernel_size=6'),
    'ss2d': ("mixer={'type': 'ss2d', 'd_state': 0}", 'd_state=0'),
    'linear_attention': ("mixer={'type': 'linear_attention', 'num_heads': 5}", 'num_heads=5'),
    'dcnv4': ("mixer={'type': 'dcnv4', 'num_heads': 2, 'offset_scale': -1.0}", 'offset_scale=-1.0'),
    'replk': ("mixer={'type': 'replk', 'small_kernel': 33}", 'small_kernel=33'),
    'focal': ("mixer={'type': 'focal', 'focal_level': 0}", 'focal_level=0'),
    'agent': (
        "mixer={'type': 'agent', 'num_heads': 1, 'bias_grid': 7, 'agent_num': 8}",
        'agent_num=8: choose a square',
    ),
    'pool': ("mixer={'type': 'pool', 'pool_size': 4}", 'pool_size=4'),
}


def test_an_unknown_mixer_of_the_demonstration(commands, refused):
    outcome = commands('demo', '--mixers', 'nat', 'swim', folder=ROOT)
    refused(KIND, 'a misspelled mixer: `demo.py --mixers swim`', outcome, 'did you mean swin?')


@pytest.mark.parametrize('mixer', INVALID)
def test_invalid_options(commands, refused, tmp_path, mixer):
    text, message = INVALID[mixer]
    backbone = f'{mixer}_tiny({text})'
    outcome = commands('complexity', LEAF, '--backbone', backbone, folder=tmp_path)
    refused(KIND, f'`--backbone "{mixer}_tiny(...)"` with an invalid option', outcome, message)
