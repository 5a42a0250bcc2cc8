"""Leaves that import modules of their own."""

import sys

import pytest

from evaluation.config.reading import read_config
from tests.commands import ROOT

pytestmark = pytest.mark.habits

BASE = ROOT / 'configs/mask_rcnn_swin_micro.py'


@pytest.fixture
def leaf(tmp_path, monkeypatch):
    """Write a leaf below one of the suite, and read it."""
    (tmp_path / 'my_module.py').write_text('')
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'my_module', raising=False)

    def read(line):
        file = tmp_path / 'leaf.py'
        file.write_text(
            'from mmengine.config import read_base\n\nwith read_base():\n'
            f'    from .configs.mask_rcnn_swin_micro import *\n\n{line}\n'
        )
        return read_config(str(file))

    return read


@pytest.mark.parametrize(
    'line',
    [
        "custom_imports = dict(imports=['my_module'])",
        "custom_imports = dict(imports='my_module', allow_failed_imports=False)",
        "custom_imports = {'imports': ['my_module']}",
        "custom_imports.update(imports=['my_module'])",
    ],
)
def test_own_imports_are_added(leaf, line):
    usual = read_config(str(BASE)).custom_imports.imports
    assert leaf(line).custom_imports.imports == [*usual, 'my_module']
    assert 'my_module' in sys.modules


def test_a_whole_list_stays(leaf):
    usual = read_config(str(BASE)).custom_imports.imports
    assert leaf('').custom_imports.imports == usual
    assert leaf("custom_imports.imports.append('my_module')").custom_imports.imports == [
        *usual,
        'my_module',
    ]
