"""ImageNet leaves: names, drop path, a common recipe (except the batch size), and a training step."""

import re
from itertools import pairwise

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement

from backbones import MIXERS, PAPER_MIXERS
from backbones.checkpoint import fit_weights
from evaluation.config.recipe import recipe_of
from evaluation.scenes.scenes import OBJECT_CLASSES
from tests.configs.test_leaves import POSITIONS, learning_rates
from tests.variants import LATER_MIXERS, ROOT, SCALES, VARIANTS, read_leaf

LEAVES = sorted(path.stem for path in (ROOT / 'configs').glob('imagenet_*.py'))
DEMO = sorted(f'demo/{path.stem}' for path in (ROOT / 'configs/demo').glob('imagenet_*.py'))
LARGE_BATCH = ('convnext', 'dcn')
# Drop path of halo and swin, convnext, dcn, pvt, by scale.
DROP_PATH = {
    'micro': (0.0, 0.0, 0.0, 0.0),
    'tiny': (0.2, 0.1, 0.1, 0.1),
    'small': (0.3, 0.4, 0.3, 0.3),
    'base': (0.5, 0.5, 0.5, 0.5),
}
COLUMNS = {'halo': 0, 'swin': 0, 'convnext': 1, 'dcn': 2, 'pvt': 3, 'dcnv4': 2}


def split(leaf):
    return re.fullmatch(r'imagenet_([a-z0-9_]+)_([a-z]+)', leaf).groups()


def test_every_mixer_and_scale_has_a_leaf():
    paper = {f'imagenet_{mixer}_{scale}' for mixer in PAPER_MIXERS for scale in SCALES}
    assert set(LEAVES) == paper | {f'imagenet_{mixer}_tiny' for mixer in LATER_MIXERS}
    assert set(DEMO) == {f'demo/imagenet_{mixer}_micro' for mixer in PAPER_MIXERS}


@pytest.mark.parametrize('leaf', LEAVES)
def test_name_matches_content(leaf):
    mixer, scale = split(leaf)
    expected = {
        **VARIANTS[f'{mixer}_{scale}'],
        'type': 'UnifiedClassifier',
        'drop_path_rate': DROP_PATH[scale][COLUMNS.get(mixer, 0)],
    }
    cfg = read_leaf(leaf)
    assert cfg.model.backbone.to_dict() == expected
    assert recipe_of(cfg).name == 'imagenet'
    assert cfg.contestant == {'name': f'{mixer}_{scale}', 'scale': scale}
    assert 'backbone' not in cfg
    first_line = (ROOT / f'configs/{leaf}.py').read_text().splitlines()[0]
    assert f', {scale}, on ImageNet-1k, 300 epochs' in first_line


@pytest.mark.parametrize('leaf', LEAVES)
def test_only_backbone_and_batch_size_differ(leaf):
    large = split(leaf)[0] in LARGE_BATCH
    found, reference = (read_leaf(name).to_dict() for name in (leaf, 'imagenet_swin_tiny'))
    for cfg in (found, reference):
        del cfg['model']['backbone'], cfg['contestant']
    batch, rate, least = (4096, 4e-3, 1e-6) if large else (1024, 1e-3, 1e-5)
    assert found['train_dataloader'].pop('batch_size') * 8 == batch
    assert found['auto_scale_lr'].pop('base_batch_size') == batch
    assert found['optim_wrapper']['optimizer'].pop('lr') == rate
    assert found['param_scheduler'][1].pop('eta_min') == least
    for place, key in (
        (reference['train_dataloader'], 'batch_size'),
        (reference['auto_scale_lr'], 'base_batch_size'),
        (reference['optim_wrapper']['optimizer'], 'lr'),
        (reference['param_scheduler'][1], 'eta_min'),
    ):
        del place[key]
    assert found == reference


def test_demo_leaves_differ_only_in_the_backbone():
    found = {leaf: read_leaf(leaf).to_dict() for leaf in DEMO}
    for leaf, cfg in found.items():
        mixer, scale = split(leaf.removeprefix('demo/'))
        assert cfg.pop('contestant') == {'name': f'{mixer}_{scale}', 'scale': scale}
        assert cfg['model'].pop('backbone') == {
            **VARIANTS[f'{mixer}_{scale}'],
            'type': 'UnifiedClassifier',
            'drop_path_rate': 0.0,
            'num_classes': len(OBJECT_CLASSES),
            'layer_scale_init_value': 1.0,
        }
    reference = found['demo/imagenet_swin_micro']
    assert all(cfg == reference for cfg in found.values())


@pytest.mark.parametrize('mixer', MIXERS)
def test_weights_of_the_demo_fit_its_dense_trainings(mixer):
    """All weights fit except norms and head, which a dense model does not have."""
    classifier = MODELS.build(read_leaf(f'demo/imagenet_{mixer}_micro').model)
    for task in ('mask_rcnn', 'upernet'):
        cfg = read_leaf(f'demo/{task}_{mixer}_micro')
        backbone = MODELS.build(cfg.model.backbone)
        _, report = fit_weights(backbone, classifier.backbone.state_dict(), 'demo')
        assert report.share == 1


def test_recipe():
    cfg = read_leaf('imagenet_swin_tiny')
    assert (cfg.model.mixup, cfg.model.cutmix, cfg.model.label_smoothing) == (0.8, 1.0, 0.1)
    assert cfg.model.data_preprocessor.random_erasing == 0.25
    assert cfg.optim_wrapper.clip_grad == {'max_norm': 5.0}
    (average,) = cfg.custom_hooks
    assert (average.type, average.momentum) == ('EMAHook', 1e-4)
    train, test = cfg.train_pipeline[1], cfg.test_pipeline[1]
    assert (train.input_size, train.auto_augment) == (224, 'rand-m9-mstd0.5-inc1')
    assert (test.input_size, test.crop_pct, test.interpolation) == (224, 0.875, 'bicubic')


@pytest.mark.parametrize('leaf', ['imagenet_swin_tiny', 'imagenet_dcn_tiny'])
def test_schedule(leaf):
    """Linear warmup over 20 epochs, then cosine decay to the lowest rate at epoch 300."""
    cfg = read_leaf(leaf)
    least = cfg.param_scheduler[1].eta_min
    # The toy optimizer has a learning rate of 1 instead of the recipe's.
    cfg.param_scheduler[1].eta_min = least / cfg.optim_wrapper.optimizer.lr
    for scheduler in cfg.param_scheduler:
        assert scheduler.pop('convert_to_iter_based')
    rates = learning_rates(cfg, 300, by_epoch=True)
    assert rates[0] == pytest.approx(1e-3)
    assert all(after > before for before, after in pairwise(rates[:20]))
    assert rates[20] == pytest.approx(1, rel=1e-3)
    assert rates[160] == pytest.approx(0.5, abs=0.02)
    assert rates[-1] * cfg.optim_wrapper.optimizer.lr == pytest.approx(least, rel=0.5)


@pytest.mark.parametrize('mixer', MIXERS)
def test_weight_decay_only_of_matrices(mixer):
    cfg = read_leaf(f'imagenet_{mixer}_micro')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim == 1 or name.endswith(POSITIONS)
        assert decay[id(parameter)] == (0 if exempt else 0.05), name


@pytest.mark.parametrize('mixer', MIXERS)
def test_a_few_steps_lower_the_loss(mixer):
    cfg = read_leaf(f'imagenet_{mixer}_micro')
    cfg.model.update(mixup=0.0, cutmix=0.0)
    cfg.model.data_preprocessor.random_erasing = 0.0
    model = MODELS.build(cfg.model).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    samples = [BaseDataElement(gt_label=torch.tensor(label)) for label in (1, 5, 5, 900)]
    losses = [
        model.train_step({'inputs': images, 'data_samples': samples}, wrapper)['loss'].item()
        for _ in range(6)
    ]
    assert losses[-1] < losses[0]
    assert all(
        parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters()
    )
