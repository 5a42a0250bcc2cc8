"""Fair and released variants of each recipe, compared with the rules of the released trainings.

Sources: github.com/OpenGVLab/STM-Evaluation (`detection/configs/unified_models/mask_rcnn_meta.py`,
`classification/optim_factory.py`, `classification/models/meta_arch.py`), and of UperNet
github.com/SwinTransformer/Swin-Transformer-Semantic-Segmentation (`configs/swin`).
"""

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope
from torch import nn

from backbones import MIXERS, PAPER_MIXERS, BackboneError, ReleasedDecayConstructor
from backbones.checkpoint.names import released_name
from backbones.released_decay import exempt_parameters
from evaluation.config.digests import LATER_EXEMPTIONS
from evaluation.config.recipe import POSITIONS, RELEASED_CONSTRUCTOR, variant_of
from evaluation.engine.experiment import read_config
from tests.released import classifier_shapes, dense_shapes, mask_rcnn_shapes
from tests.variants import RELEASED_VARIANTS, ROOT, VARIANTS, classifier_config, read_leaf

BUFFERS = ('running_mean', 'running_var', 'num_batches_tracked', 'attn_mask', 'relative_position_index')
# Page, and a leaf that imports it.
PAGES = {
    'mask_rcnn_coco_1x': 'mask_rcnn_{mixer}_micro',
    'mask_rcnn_coco_3x': 'mask_rcnn_{mixer}_micro',
    'upernet_ade20k_160k': 'upernet_{mixer}_micro',
    'imagenet_1k_300e': 'imagenet_{mixer}_micro',
    'imagenet_1k_300e_batch4096': 'imagenet_{mixer}_micro',
}
BASE = {'mask_rcnn_coco_3x': 'mask_rcnn_coco_1x'}
LARGE_BATCH = ('convnext', 'dcn')


def page_and_mixers():
    for page in PAGES:
        for mixer in PAPER_MIXERS:
            if not page.startswith('imagenet') or page.endswith('4096') == (mixer in LARGE_BATCH):
                yield page, mixer


@pytest.fixture
def read_on_page(tmp_path):
    """Read a leaf as if it imported a different page."""
    (tmp_path / '_base_').symlink_to(ROOT / 'configs/_base_')

    def read(page, mixer, suffix):
        leaf = PAGES[page].format(mixer=mixer)
        base = BASE.get(page, page)
        source = (ROOT / f'configs/{leaf}.py').read_text()
        assert f'._base_.{base} import' in source
        file = tmp_path / f'{leaf}{suffix}.py'
        file.write_text(source.replace(f'._base_.{base} import', f'._base_.{page}{suffix} import'))
        return read_config(str(file))

    return read


def decay_by_name(model, optim_wrapper):
    """Return the weight decay of every parameter relative to the optimizer's; check everything else."""
    optimizer = build_optim_wrapper(model, optim_wrapper).optimizer
    settings, names = optim_wrapper['optimizer'], {id(p): n for n, p in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        assert group['lr'] == settings['lr']
        for parameter in group['params']:
            found[names[id(parameter)]] = group['weight_decay'] / settings['weight_decay']
    return found


def detection_rule(name):
    words = ('norm', 'absolute_pos_embed', 'relative_position_bias_table')
    return 0 if any(word in name for word in words) else 1


def classification_rule(name, shape):
    # `no_weight_decay()` of the released classifiers returns the tables of swin.
    listed = 'relative_position_bias_table' in name
    return 0 if len(shape) == 1 or name.endswith('.bias') or listed else 1


class Model(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


def released_groups(config):
    """Return the weight decay of a backbone by released name."""
    with torch.device('meta'):
        model = Model(MODELS.build(config))
    exempt, mixer = exempt_parameters(model), model.backbone.mixer_name
    return {
        released_name(name, mixer): 0 if id(parameter) in exempt else 1
        for name, parameter in model.backbone.named_parameters()
    }


def parameters(shapes):
    """Return the shapes of parameters, without buffers."""
    return {name: shape for name, shape in shapes.items() if not name.endswith(BUFFERS)}


# The released rules, on released names and shapes


@pytest.mark.parametrize('variant', RELEASED_VARIANTS)
def test_released_groups_of_dense_models(variant):
    expected = {name: detection_rule(name) for name in parameters(dense_shapes(variant))}
    assert released_groups(VARIANTS[variant]) == expected


@pytest.mark.parametrize('variant', RELEASED_VARIANTS)
def test_released_groups_of_classifiers(variant):
    expected = {
        name: classification_rule(name, shape)
        for name, shape in parameters(classifier_shapes(variant)).items()
    }
    assert released_groups(classifier_config(VARIANTS[variant])) == expected


@pytest.mark.parametrize(('page', 'mixer'), [*page_and_mixers()])
def test_released_groups_of_the_pages(read_on_page, page, mixer):
    """Check whole models, including heads."""
    cfg = read_on_page(page, mixer, '_released')
    model = build(cfg)
    found = {
        'backbone.' + released_name(name.removeprefix('backbone.'), mixer)
        if name.startswith('backbone.')
        else name: decay
        for name, decay in decay_by_name(model, cfg.optim_wrapper).items()
    }
    variant = f'{mixer}_micro'
    if page.startswith('imagenet'):
        expected = {
            f'backbone.{name}': classification_rule(name, shape)
            for name, shape in parameters(classifier_shapes(variant)).items()
        }
    elif page.startswith('mask_rcnn'):
        expected = {name: detection_rule(name) for name in parameters(mask_rcnn_shapes(variant))}
    else:
        heads = [n for n, _ in model.named_parameters() if not n.startswith('backbone.')]
        assert sum('.bn.' in name for name in heads) > 10
        names = [*heads, *(f'backbone.{name}' for name in parameters(dense_shapes(variant)))]
        expected = {name: detection_rule(name) for name in names}
    assert found == expected


def test_parameters_decayed_by_accident():
    """10 tensors of norms of stem and downsampling, 24 layer scales of halo and 30 of convnext."""
    dense = released_groups(VARIANTS['halo_tiny'])
    trunk_norms = ('stem.1.', 'stem.4.', 'reduction.1.')
    norms = [name for name in dense if any(part in name for part in trunk_norms)]
    assert [dense[name] for name in norms] == [1] * 10
    tables = [name for name in dense if name.endswith(('height_rel', 'width_rel'))]
    assert [dense[name] for name in tables] == [1] * 24
    pvt = released_groups(VARIANTS['pvt_tiny'])
    assert [pvt[name] for name in pvt if name.endswith('pos_embed')] == [1] * 4
    for variant, count in {'halo_tiny': 24, 'convnext_tiny': 30, 'swin_tiny': 0, 'dcn_tiny': 0}.items():
        groups = released_groups(classifier_config(VARIANTS[variant]))
        scales = [decay for name, decay in groups.items() if 'gamma' in name]
        assert sum(scales) == count, variant


def build(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        return MODELS.build(cfg.model)


# Pages


@pytest.mark.parametrize(('page', 'mixer'), [*page_and_mixers()])
def test_variants_differ_only_in_weight_decay(read_on_page, page, mixer):
    fair, released = (read_on_page(page, mixer, suffix) for suffix in ('', '_released'))
    assert variant_of(fair.optim_wrapper) == 'fair'
    assert variant_of(released.optim_wrapper) == 'released'
    fair, released = fair.to_dict(), released.to_dict()
    assert released['optim_wrapper'].pop('constructor') == RELEASED_CONSTRUCTOR
    del fair['optim_wrapper']['paramwise_cfg']
    assert released == fair


@pytest.mark.parametrize('page', [page for page in PAGES if not page.startswith('imagenet')])
def test_released_pages_are_the_same_recipe_for_all_mixers(read_on_page, page):
    def rest(mixer):
        cfg = read_on_page(page, mixer, '_released').to_dict()
        del cfg['model']['backbone'], cfg['contestant']
        for part in ('neck', 'decode_head', 'auxiliary_head'):
            cfg['model'].get(part, {}).pop('in_channels', None)
        return cfg

    reference, *others = map(rest, PAPER_MIXERS)
    assert all(cfg == reference for cfg in others)


@pytest.mark.parametrize('mixer', MIXERS)
@pytest.mark.parametrize('task', ['mask_rcnn', 'upernet', 'imagenet'])
def test_fair_decay_depends_on_the_kind(task, mixer):
    """Each kind of parameter is decayed in all mixers or in none."""
    cfg = read_leaf(f'{task}_{mixer}_micro')
    model = build(cfg)
    kinds = {id(p): module for module in model.modules() for p in module.parameters(recurse=False)}
    for name, decay in decay_by_name(model, cfg.optim_wrapper).items():
        parameter = model.get_parameter(name)
        is_norm = isinstance(kinds[id(parameter)], (nn.LayerNorm, nn.BatchNorm2d))
        if not name.startswith('backbone.'):
            assert decay == 1, name
        else:
            flat = task == 'imagenet' and parameter.ndim == 1
            is_position = name.endswith((*POSITIONS, *LATER_EXEMPTIONS, 'pos_embed.weight'))
            assert decay == (0 if is_norm or is_position or flat else 1), name


@pytest.mark.parametrize('task', ['mask_rcnn', 'upernet', 'imagenet'])
def test_released_variant_on_the_command_line(task):
    """The option given in docs/training.md is enough."""
    cfg = read_leaf(f'{task}_halo_micro')
    model = build(cfg)
    fair = decay_by_name(model, cfg.optim_wrapper)
    cfg.merge_from_dict({'optim_wrapper.constructor': RELEASED_CONSTRUCTOR})
    assert variant_of(cfg.optim_wrapper) == 'released'
    released = decay_by_name(model, cfg.optim_wrapper)
    assert released['backbone.stages.0.0.mixer.height_rel'] == 1
    del cfg.optim_wrapper['paramwise_cfg']
    assert decay_by_name(model, cfg.optim_wrapper) == released != fair


def test_other_networks_use_their_own_names():
    cfg = read_leaf('upernet_r50')
    model = build(cfg)
    assert variant_of(cfg.optim_wrapper) == 'fair'
    fair = decay_by_name(model, cfg.optim_wrapper)
    assert fair['backbone.layer2.0.bn1.weight'] == 0
    cfg.optim_wrapper.constructor = RELEASED_CONSTRUCTOR
    assert decay_by_name(model, cfg.optim_wrapper)['backbone.layer2.0.bn1.weight'] == 1


def test_layer_decay_is_kept():
    wrapper = {
        'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.05},
        'constructor': RELEASED_CONSTRUCTOR,
        'paramwise_cfg': {'layer_decay_rate': 0.5},
    }
    with torch.device('meta'):
        model = Model(MODELS.build(VARIANTS['halo_micro']))
    groups = build_optim_wrapper(model, wrapper).optimizer.param_groups
    assert len({group['lr'] for group in groups}) == model.backbone.num_layers + 1
    assert {group['weight_decay'] for group in groups} == {0.0, 0.05}


def test_released_decay_needs_a_weight_decay():
    wrapper = {'optimizer': {'type': 'SGD', 'lr': 1.0}, 'constructor': RELEASED_CONSTRUCTOR}
    with pytest.raises(BackboneError, match='weight_decay'):
        build_optim_wrapper(Model(nn.Linear(2, 2)), wrapper)


def test_recipe_with_other_rules():
    assert ReleasedDecayConstructor.__name__ == RELEASED_CONSTRUCTOR
    assert variant_of({'constructor': ReleasedDecayConstructor}) == 'released'
    assert variant_of({}) is None
    assert variant_of({'paramwise_cfg': {'norm_decay_mult': 0.0}}) is None
    no_halo = {name: {'decay_mult': 0.0} for name in POSITIONS[2:]}
    assert variant_of({'paramwise_cfg': {'norm_decay_mult': 0.0, 'custom_keys': no_halo}}) is None


def test_configs_from_before_later_mixers_are_fair():
    keys = {name: {'decay_mult': 0.0} for name in POSITIONS}
    rules = {'norm_decay_mult': 0.0, 'custom_keys': keys}
    assert variant_of({'paramwise_cfg': rules}) == 'fair'
    keys['rpb'] = {'decay_mult': 1.0}
    assert variant_of({'paramwise_cfg': rules}) is None


# Published values


@pytest.mark.parametrize(
    ('scale', 'dims', 'depths', 'heads'),
    [
        ('tiny', [96, 192, 384, 768], [2, 2, 6, 2], [3, 6, 12, 24]),
        ('small', [96, 192, 384, 768], [2, 2, 18, 2], [3, 6, 12, 24]),
        ('base', [128, 256, 512, 1024], [2, 2, 18, 2], [4, 8, 16, 32]),
    ],
)
def test_upernet_is_the_published_recipe_of_swin(scale, dims, depths, heads):
    """`upernet_swin_{tiny,small,base}_patch4_window7_512x512_160k_ade20k.py`, value by value."""
    cfg = read_leaf(f'upernet_swin_{scale}')
    backbone = cfg.model.backbone
    assert (backbone.dims, backbone.depths, backbone.mixer.num_heads) == (dims, depths, heads)
    assert backbone.drop_path_rate == 0.3
    swin = build(cfg).backbone.stages[0][0]
    assert (swin.mixer.window_size, swin.mlp.fc1.out_features) == (7, 4 * dims[0])
    assert swin.mixer.qkv.bias is not None
    head, auxiliary = cfg.model.decode_head, cfg.model.auxiliary_head
    assert head.to_dict() == {
        'type': 'UPerHead',
        'in_channels': dims,
        'in_index': [0, 1, 2, 3],
        'pool_scales': (1, 2, 3, 6),
        'channels': 512,
        'dropout_ratio': 0.1,
        'num_classes': 150,
        'norm_cfg': {'type': 'BN', 'requires_grad': True},
        'align_corners': False,
        'loss_decode': {'type': 'CrossEntropyLoss', 'use_sigmoid': False, 'loss_weight': 1.0},
    }
    assert auxiliary.to_dict() == {
        'type': 'FCNHead',
        'in_channels': dims[2],
        'in_index': 2,
        'channels': 256,
        'num_convs': 1,
        'concat_input': False,
        'dropout_ratio': 0.1,
        'num_classes': 150,
        'norm_cfg': {'type': 'BN', 'requires_grad': True},
        'align_corners': False,
        'loss_decode': {'type': 'CrossEntropyLoss', 'use_sigmoid': False, 'loss_weight': 0.4},
    }
    assert cfg.model.test_cfg == {'mode': 'whole'}
    optimizer = cfg.optim_wrapper.optimizer.to_dict()
    assert optimizer == {'type': 'AdamW', 'lr': 6e-5, 'betas': (0.9, 0.999), 'weight_decay': 0.01}
    assert cfg.optim_wrapper.get('clip_grad') is None
    warm_up, poly = (scheduler.to_dict() for scheduler in cfg.param_scheduler)
    assert warm_up == {
        'type': 'LinearLR',
        'start_factor': 1e-6,
        'by_epoch': False,
        'begin': 0,
        'end': 1500,
    }
    assert (poly['power'], poly['eta_min'], poly['end'], poly['by_epoch']) == (1.0, 0.0, 160_000, False)
    assert cfg.train_cfg.max_iters == 160_000
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    steps = {step.type: step for step in cfg.train_pipeline}
    assert (steps['RandomResize'].scale, steps['RandomResize'].ratio_range) == ((2048, 512), (0.5, 2.0))
    assert (steps['RandomCrop'].crop_size, steps['RandomCrop'].cat_max_ratio) == ((512, 512), 0.75)
    assert steps['RandomFlip'].prob == 0.5
    assert list(steps['PhotoMetricDistortion']) == ['type']
    assert cfg.test_pipeline[1].scale == (2048, 512)


@pytest.mark.parametrize('scale', ['tiny', 'small', 'base'])
@pytest.mark.parametrize('mixer', MIXERS)
def test_upernet_has_the_same_drop_path_for_all_mixers(mixer, scale):
    assert read_leaf(f'upernet_{mixer}_{scale}').model.backbone.drop_path_rate == 0.3


@pytest.mark.parametrize('suffix', ['', '_released'])
@pytest.mark.parametrize('mixer', ['swin', 'dcn'])
def test_imagenet_averages_batch_norm_statistics(read_on_page, mixer, suffix):
    """Average every floating-point entry of the state dict, like timm's `ModelEma`."""
    page = 'imagenet_1k_300e_batch4096' if mixer in LARGE_BATCH else 'imagenet_1k_300e'
    (settings,) = read_on_page(page, mixer, suffix).custom_hooks
    hook = HOOKS.build(settings)
    assert isinstance(hook, EMAHook)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, momentum=0.5)).train()
    average = MODELS.build(hook.ema_cfg, default_args={'model': model})
    expected = None
    for _ in range(4):
        model(5 + torch.randn(8, 3))
        with torch.no_grad():
            model[0].weight.add_(1)
        state = {n: v.clone() for n, v in model.state_dict().items() if v.is_floating_point()}
        if expected is None:
            expected = state
        else:
            expected = {name: expected[name] * (1 - 1e-4) + state[name] * 1e-4 for name in state}
        average.update_parameters(model)
    found = average.module.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert not torch.allclose(found['1.running_mean'], model.state_dict()['1.running_mean'])
