"""The backbones in a project of a user, without the checkout, as `pip install .` installs them."""

import shutil
import subprocess
import sys

import pytest

from tests.commands import ROOT

CONFIG = """
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['backbones'])
model = dict(
    backbone=dict(
        _delete_=True,
        type='UnifiedBackbone',
        mixer=dict(type='swin', num_heads=[1, 2, 4, 8]),
        dims=[16, 32, 64, 128],
        depths=[1, 1, 1, 1]),
    neck=dict(in_channels=[16, 32, 64, 128]))
"""
PROGRAM = """
import sys, torch
from mmengine.config import Config
cfg = Config.fromfile('config.py')
from mmdet.registry import MODELS
model = MODELS.build(cfg.model)
maps = model.extract_feat(torch.zeros(1, 3, 64, 96))
print([tuple(each.shape) for each in maps])
print(sys.modules['backbones'].__file__)
print('evaluation' in sys.modules)
"""


@pytest.fixture
def project(tmp_path):
    """A folder outside the checkout, with the package beside it."""
    shutil.copytree(ROOT / 'backbones', tmp_path / 'site/backbones')
    folder = tmp_path / 'project'
    folder.mkdir()
    (folder / 'config.py').write_text(CONFIG)
    (folder / 'program.py').write_text(PROGRAM)
    return folder


def test_in_a_detector_of_mmdet(project):
    site = project.parent / 'site'
    done = subprocess.run(
        [sys.executable, 'program.py'],
        cwd=project,
        env={'PATH': '', 'PYTHONPATH': str(site), 'HOME': str(project)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    shapes, file, needs_evaluation = done.stdout.splitlines()[-3:]
    assert shapes == str(
        [(1, 256, 64 // side, 96 // side) for side in (4, 8, 16, 32)] + [(1, 256, 1, 2)]
    )
    assert file == str(site / 'backbones/__init__.py')
    assert needs_evaluation == 'False'
