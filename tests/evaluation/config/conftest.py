import pytest

from evaluation.config.config_files import read_config
from tests.commands import ROOT


@pytest.fixture
def mask_rcnn():
    return read_config(str(ROOT / 'configs/mask_rcnn_swin_micro.py'))


@pytest.fixture
def upernet():
    return read_config(str(ROOT / 'configs/upernet_dcn_micro.py'))
