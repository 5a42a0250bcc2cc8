"""Settings of earlier versions are refused with today's name, or do no harm."""

import pytest
from mmengine.config import Config

from evaluation.config.checks import check_config, check_old_names
from evaluation.config.options import merge_options
from evaluation.config.reading import read_config
from evaluation.utils.errors import UserError
from tests.commands import ROOT

pytestmark = pytest.mark.habits

TRAINING = ('train_dataloader', 'val_dataloader')


@pytest.mark.parametrize('leaf', ['mask_rcnn_swin_micro', 'upernet_dcn_micro', 'upernet_r50'])
@pytest.mark.parametrize('place', ['model', 'model.backbone'])
class TestPretrained:
    def test_of_a_training_names_the_option(self, leaf, place):
        cfg = read_config(str(ROOT / f'configs/{leaf}.py'))
        merge_options(cfg, {f'{place}.pretrained': 'swin.pth'})
        with pytest.raises(UserError) as caught:
            check_config(cfg, TRAINING, 1)
        (line,) = str(caught.value).splitlines()
        assert line.startswith(
            f"{place}.pretrained='swin.pth' is of an earlier version; give --pretrained swin.pth"
        )

    def test_of_a_test_is_left_out(self, leaf, place):
        """All weights come from the checkpoint."""
        cfg = read_config(str(ROOT / f'configs/{leaf}.py'))
        merge_options(cfg, {f'{place}.pretrained': 'swin.pth'})
        check_config(cfg, ('test_dataloader',), 1)
        assert 'swin.pth' not in cfg.pretty_text


def test_none_is_what_configs_of_mmseg_have():
    cfg = read_config(str(ROOT / 'configs/upernet_dcn_micro.py'))
    cfg.model.pretrained = None
    check_config(cfg, TRAINING, 1)


@pytest.mark.parametrize(
    ('settings', 'advice'),
    [
        (dict(seed=42), r'seed=42 is read by nothing; give randomness=dict\(seed=42\), or --seed'),
        (dict(seed=42, randomness=dict(seed=1)), r'seed=42 is read by nothing'),
        (dict(deterministic=True), r'give randomness=dict\(deterministic=True\)'),
        (dict(resume_from='a.pth'), "give load_from='a.pth' with resume=True, or --resume"),
        (dict(auto_resume=True), 'give resume=True, or --resume'),
    ],
)
def test_what_nothing_reads(settings, advice):
    with pytest.raises(UserError, match=advice):
        check_old_names(Config(settings), is_training=True)
    check_old_names(Config(settings), is_training=False)


@pytest.mark.parametrize(
    'settings',
    [
        dict(seed=42, randomness=dict(seed=42)),
        dict(seed=None, resume_from=None, auto_resume=False, deterministic=False),
        dict(resume_from='a.pth', load_from='a.pth', resume=True),
    ],
)
def test_names_of_values_that_are_set(settings):
    check_old_names(Config(settings), is_training=True)
