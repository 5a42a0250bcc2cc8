import pytest
from mmengine.config import Config

from evaluation.result_hook import config_name, describe_backbone, starting_weights
from tests.variants import VARIANTS


def config(init_cfg=None, **top):
    return Config({'model': {'backbone': {'type': 'UnifiedBackbone', 'init_cfg': init_cfg}}, **top})


PRETRAINED = {'type': 'Pretrained', 'checkpoint': 'imagenet.pth'}


@pytest.mark.parametrize(
    ('cfg', 'expected'),
    [
        (config(), 'scratch'),
        (config(PRETRAINED), 'imagenet.pth'),
        (config(load_from='detector.pth', resume=False), 'detector.pth'),
        (config(PRETRAINED, load_from='detector.pth', resume=False), 'detector.pth'),
        (config(PRETRAINED, load_from='epoch_3.pth', resume=True), 'imagenet.pth'),
        (config(load_from=None, resume=True), 'scratch'),
    ],
)
def test_starting_weights(cfg, expected):
    assert starting_weights(cfg) == expected


class Backbone:
    def __init__(self, mixer_name):
        self.mixer_name = mixer_name


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('task', ['mask_rcnn', 'upernet'])
def test_leaf_names_say_mixer_and_scale(task, variant):
    mixer, scale = variant.rsplit('_', 1)
    described = describe_backbone(f'configs/{task}_{variant}.py', task, Backbone(mixer))
    assert described == {'backbone': variant, 'mixer': mixer, 'scale': scale}


def test_baselines_and_other_names_have_no_scale():
    r50 = describe_backbone('configs/mask_rcnn_r50.py', 'mask_rcnn', object())
    assert r50 == {'backbone': 'r50', 'mixer': None, 'scale': None}
    other = describe_backbone('my_experiment.py', 'upernet', Backbone('dcn'))
    assert other == {'backbone': 'my_experiment', 'mixer': None, 'scale': None}


def test_config_name():
    assert config_name('a/b/upernet_dcn_tiny.py') == 'upernet_dcn_tiny'
