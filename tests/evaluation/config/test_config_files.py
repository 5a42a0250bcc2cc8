"""Configs and their imports."""

import sys

import pytest

from evaluation.config.config_files import check_imports, read_config
from tests.commands import ROOT
from tests.refusals import refusal

BASE = ROOT / 'configs/mask_rcnn_swin_micro.py'


class TestImports:
    def test_all_imports_are_followed(self):
        files = check_imports(ROOT / 'configs/demo/upernet_dcn_micro.py')
        names = ['demo/upernet_dcn_micro.py', '_base_/backbones/dcn.py', '_base_/demo_upernet.py']
        names += ['_base_/upernet_ade20k_160k.py', '_base_/runtime.py']
        assert files == [ROOT / 'configs' / name for name in names]

    def test_every_way_to_bind_a_name(self, tmp_path):
        text = (
            'import os\nfrom torch import nn as layers\na = b, (c, d) = 1, (2, 3)\nfor e in a: f = e\n'
        )
        (tmp_path / 'base.py').write_text(text)
        leaf = tmp_path / 'leaf.py'
        opening = 'from mmengine.config import read_base\nwith read_base():\n    from .base import '
        leaf.write_text(opening + 'os, layers, a, b, c, d, e, f as g\n')
        check_imports(leaf)
        leaf.write_text(opening + 'g\n')
        assert refusal(check_imports, leaf).startswith(f'config {leaf}, line 3: base.py has no g')

    def test_pages_that_import_each_other(self, tmp_path):
        for one, other in (('a', 'b'), ('b', 'a')):
            text = f'with read_base():\n    from .{other} import *\n{one} = 1\n'
            (tmp_path / f'{one}.py').write_text(text)
        assert len(check_imports(tmp_path / 'a.py')) == 2

    @pytest.mark.parametrize('content', [b'a = "\xff"\n', b'a = 1\x00\n'])
    def test_binary_files(self, tmp_path, content):
        file = tmp_path / 'config.py'
        file.write_bytes(content)
        assert str(file) in refusal(check_imports, file)


@pytest.fixture
def read_leaf(tmp_path, monkeypatch):
    """Return a function that writes a config based on a leaf, and reads it."""
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


@pytest.mark.habits
@pytest.mark.parametrize(
    'line',
    [
        "custom_imports = dict(imports=['my_module'])",
        "custom_imports = dict(imports='my_module', allow_failed_imports=False)",
        "custom_imports = {'imports': ['my_module']}",
        "custom_imports.update(imports=['my_module'])",
    ],
)
def test_own_imports_are_added(read_leaf, line):
    usual = read_config(str(BASE)).custom_imports.imports
    assert read_leaf(line).custom_imports.imports == [*usual, 'my_module']
    assert 'my_module' in sys.modules


@pytest.mark.habits
def test_complete_list_is_not_changed(read_leaf):
    usual = read_config(str(BASE)).custom_imports.imports
    assert read_leaf('').custom_imports.imports == usual
    assert read_leaf("custom_imports.imports.append('my_module')").custom_imports.imports == [
        *usual,
        'my_module',
    ]
