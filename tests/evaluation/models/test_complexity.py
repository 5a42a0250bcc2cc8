"""Parameters and FLOPs of whole models, compared with published figures and with formulas."""

import copy
import itertools
import random
import statistics
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from torch import nn

from backbones import MIXERS, PAPER_MIXERS
from backbones.unified import build_mixer
from evaluation.engine.experiment import read_config
from evaluation.models.complexity import CONVENTION, complexity, complexity_of_config, part_of
from evaluation.models.operator_flops import FORMULAS, count_flops
from evaluation.utils.errors import UserError
from evaluation.utils.meta_device import build_without_values
from tests.variants import LATER_MIXERS, MICRO, ROOT, SCALES, VARIANTS, classifier_config, read_leaf

LEAVES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').glob('*.py'))
SMALL = (64, 96)
# Names of parts, by keys of a model's config.
PARTS = {
    'neck': ['neck'],
    'rpn_head': ['RPN head'],
    'bbox_head': ['box head'],
    'roi_head': ['box head', 'mask head'],
    'decode_head': ['decode head'],
    'auxiliary_head': ['auxiliary head'],
}
# Mixers that show what the architecture alone is worth.
LOWER_BOUNDS = ('pool', 'identity')
SWIN_T = {
    'type': 'SwinTransformer',
    'embed_dims': 96,
    'depths': [2, 2, 6, 2],
    'num_heads': [3, 6, 12, 24],
    'window_size': 7,
    'drop_path_rate': 0.2,
}
SWIN_T_DIMS = [96, 192, 384, 768]


def model_config(leaf):
    """Return model and scope of a config, newly read."""
    cfg = read_config(str(ROOT / leaf))
    return cfg.model, cfg.default_scope


@pytest.fixture(scope='module', params=['mask_rcnn', 'upernet'])
def swin_t(request):
    """Return the task, and the complexity of mmdet's or mmseg's Swin-T with the recipe's heads."""
    task = request.param
    model, scope = model_config(f'configs/{task}_r50.py')
    model.backbone = ConfigDict(SWIN_T)
    if task == 'mask_rcnn':
        model.neck.in_channels = SWIN_T_DIMS
    else:
        model.decode_head.in_channels = SWIN_T_DIMS
        model.auxiliary_head.in_channels = SWIN_T_DIMS[2]
    return task, complexity_of_config(model, scope)


class TestPublishedFigures:
    """Swin-T: its authors' repositories and arXiv 2103.14030, table 3; ResNet-50: arXiv 2107.00652."""

    def test_swin_t(self, swin_t):
        task, found = swin_t
        published = {
            'mask_rcnn': (48, 267, 800, 1280),
            'upernet': (60, 945, 512, 2048),
        }
        parameters, flops, *size = published[task]
        assert [found.height, found.width] == size
        assert found.uncounted_operators == ()
        assert round(found.parameters / 1e6) == parameters
        assert round(found.flops_with_norms / 1e9) == flops

    def test_swin_t_with_and_without_norms(self, swin_t):
        """Same as mmengine's figures for these models, which round to the published ones."""
        task, found = swin_t
        assert round(found.flops / 1e9, 2) == {'mask_rcnn': 266.55, 'upernet': 944.39}[task]
        assert round(found.flops_with_norms / 1e9, 2) == {'mask_rcnn': 266.99, 'upernet': 945.07}[task]

    def test_resnet_50(self):
        found = complexity_of_config(*model_config('configs/mask_rcnn_r50.py'))
        assert round(found.parameters / 1e6) == 44
        assert round(found.flops / 1e9, 2) == 259.32
        assert round(found.flops_with_norms / 1e9, 2) == 259.77

    def test_published_parameters_include_the_auxiliary_head(self, swin_t):
        task, found = swin_t
        auxiliary = [part for part in found.parts if part.name == 'auxiliary head']
        assert len(auxiliary) == (task == 'upernet')
        for part in auxiliary:
            assert part.flops is None
            assert round((found.parameters - part.parameters) / 1e6) == 59


# Multiply-adds by formula. `height` and `width` are the size of the map in tokens, `c` its channels.


def swin_by_hand(height, width, c, *, num_heads, window_size=7):
    padded = window_size * ceil(height / window_size) * window_size * ceil(width / window_size)
    qkv = 3 * c * c * padded
    logits_and_values = 2 * window_size**2 * c * padded
    return qkv + logits_and_values + c * c * height * width


def halo_by_hand(height, width, c, *, num_heads, block_size=7, halo_size=3):
    padded = block_size * ceil(height / block_size) * block_size * ceil(width / block_size)
    window = block_size + 2 * halo_size
    q_and_kv = 3 * c * c * height * width
    logits_and_values = 2 * window**2 * c * padded
    # Each query is multiplied with a relative embedding for each row and each column of the window.
    positions = 2 * window * c * padded
    return q_and_kv + logits_and_values + positions + c * c * height * width


def pvt_by_hand(height, width, c, *, num_heads, sr_ratio):
    tokens, keys = height * width, (height // sr_ratio) * (width // sr_ratio)
    reduction = c * c * sr_ratio**2 * keys if sr_ratio > 1 else 0
    q_and_proj = 2 * c * c * tokens
    kv = 2 * c * c * keys
    logits_and_values = 2 * tokens * keys * c
    return reduction + q_and_proj + kv + logits_and_values


def convnext_by_hand(height, width, c, *, kernel_size=7):
    return (2 * c * c + kernel_size**2 * c) * height * width


def dcn_by_hand(height, width, c, *, num_heads, kernel_size=3):
    points = kernel_size**2
    depthwise = points * c
    offsets_and_weights = 3 * points * num_heads * c
    value_and_output = 2 * c * c
    # Bilinear: four neighbors for each channel of each point, then the weight of the point.
    sampling = (4 + 1) * points * c
    return (depthwise + offsets_and_weights + value_and_output + sampling) * height * width


def nat_by_hand(height, width, c, *, num_heads, kernel_size=7):
    padded = max(height, kernel_size) * max(width, kernel_size)
    return 3 * c * c * padded + 2 * kernel_size**2 * c * padded + c * c * height * width


def ss2d_by_hand(height, width, c, *, d_state=1, ssm_ratio=1.0):
    inner, rank = int(ssm_ratio * c), ceil(c / 16)
    projections = 2 * c * inner
    depthwise = 9 * inner
    steps_and_maps = 4 * inner * (rank + 2 * d_state) + 4 * inner * rank
    # In each direction and state: decay, input and sum, then the output; and the skip connection.
    scan = 4 * inner * (4 * d_state + 1)
    return (projections + depthwise + steps_and_maps + scan) * height * width


def linear_attention_by_hand(height, width, c, *, num_heads):
    # Keys times values and queries times their sums, in each head.
    products = 2 * c * c // num_heads
    return (2 * c * c + products + 9 * c) * height * width


def dcnv4_by_hand(height, width, c, *, num_heads, kernel_size=3):
    points = kernel_size**2
    offsets_and_weights = c * 8 * ceil(3 * points * num_heads / 8)
    # Four neighbors for each channel of each point; the weight of the point is part of theirs.
    sampling = 4 * points * c
    return (points * c + offsets_and_weights + 2 * c * c + sampling) * height * width


def replk_by_hand(height, width, c, *, kernel_size):
    return kernel_size**2 * c * height * width


def focal_by_hand(height, width, c, *, focal_window=3, focal_level=3):
    kernels = sum((focal_window + 2 * level) ** 2 for level in range(focal_level))
    return (c * (2 * c + focal_level + 1) + 2 * c * c + kernels * c) * height * width


def agent_by_hand(height, width, c, *, num_heads, agent_num, bias_grid):
    return (4 * c * c + 4 * agent_num * c + 9 * c) * height * width


def no_products(height, width, c):
    return 0


BY_HAND = {
    'halo': halo_by_hand,
    'pvt': pvt_by_hand,
    'swin': swin_by_hand,
    'convnext': convnext_by_hand,
    'dcn': dcn_by_hand,
    'nat': nat_by_hand,
    'ss2d': ss2d_by_hand,
    'linear_attention': linear_attention_by_hand,
    'dcnv4': dcnv4_by_hand,
    'replk': replk_by_hand,
    'focal': focal_by_hand,
    'agent': agent_by_hand,
    'pool': no_products,
    'identity': no_products,
}


def by_hand(token):
    assert token in BY_HAND, (
        f'the mixer {token!r} has no formula for its FLOPs; derive one from its equations and add it to '
        'BY_HAND, so that the operator count can be compared with it'
    )
    return BY_HAND[token]


def options_of(token, stage):
    """Return the options of the mixer in a stage of the micro scale, without its type."""
    mixer = MICRO[f'{token}_micro']['mixer']
    return {
        name: value[stage] if isinstance(value, (list, tuple)) else value
        for name, value in mixer.items()
        if name != 'type'
    }


def mixer_flops(token, stage, height, width, batch=1, block_index=1):
    config = MICRO[f'{token}_micro']
    dim = config['dims'][stage]
    mixer = build_mixer(config['mixer'], stage, 4, dim, block_index).to('meta').eval()
    with torch.no_grad(), count_flops(mixer) as counter:
        mixer(torch.empty(batch, height, width, dim, device='meta'))
    assert not counter.uncounted
    return counter.total


@pytest.mark.parametrize('token', MIXERS)
class TestMixersByHand:
    # Windows of 7 fit only the first map; reductions by 8 to 1 occur with and without remainders.
    @pytest.mark.parametrize(
        ('stage', 'size'), [(0, (56, 28)), (0, (25, 38)), (1, (23, 9)), (3, (3, 5))]
    )
    def test_mixer(self, token, stage, size):
        dim = MICRO[f'{token}_micro']['dims'][stage]
        expected = by_hand(token)(*size, dim, **options_of(token, stage))
        assert mixer_flops(token, stage, *size) == expected

    @settings(max_examples=6, deadline=None)
    @given(height=st.integers(8, 40), width=st.integers(8, 40), batch=st.integers(1, 4))
    def test_flops_are_proportional_to_the_batch(self, token, height, width, batch):
        dim = MICRO[f'{token}_micro']['dims'][0]
        image = by_hand(token)(height, width, dim, **options_of(token, 0))
        for block_index in (0, 1):
            assert mixer_flops(token, 0, height, width, batch, block_index) == batch * image

    # The second size needs padding in every stage.
    @pytest.mark.parametrize('size', [(224, 224), (203, 330)])
    def test_backbone(self, token, size):
        config = MICRO[f'{token}_micro']
        with torch.no_grad():
            backbone = build_without_values(config, None).eval()
            with count_flops(backbone) as counter:
                backbone(torch.empty(1, 3, *size, device='meta'))
        assert counter.total == sum(backbone_by_hand(token, config, *size))


def backbone_by_hand(token, config, height, width):
    """Yield the multiply-adds of stem and stages; sizes round up in strided convolutions."""
    dims, ratios = config['dims'], config.get('mlp_ratios', (4, 4, 4, 4))
    height, width = ceil(height / 2), ceil(width / 2)
    yield 9 * 3 * (dims[0] // 2) * height * width
    in_dim = dims[0] // 2
    for stage, (dim, depth, ratio) in enumerate(zip(dims, config['depths'], ratios, strict=True)):
        height, width = ceil(height / 2), ceil(width / 2)
        yield 9 * in_dim * dim * height * width
        mixer = {k: v[stage] if isinstance(v, list | tuple) else v for k, v in config['mixer'].items()}
        del mixer['type']
        block = by_hand(token)(height, width, dim, **mixer) + 2 * ratio * dim**2 * height * width
        yield depth * block
        in_dim = dim


class TestLeaves:
    @pytest.mark.parametrize('leaf', LEAVES)
    def test_every_operator_is_known_and_every_part_counted(self, leaf):
        config, scope = model_config(leaf)
        if 'depths' in config.backbone:
            # An even and an odd block cover all operators, and are faster to build.
            config.backbone.depths = [2, 1, 1, 1]
        model = build_without_values(config, scope)
        found = complexity(model, SMALL)
        assert found.uncounted_operators == ()
        assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
        assert found.flops == sum(part.flops for part in found.parts if part.flops is not None)
        heads = [part for key, parts in PARTS.items() if config.get(key) for part in parts]
        heads = heads or ['classification head']
        stages = [f'stage {number}' for number in (1, 2, 3, 4)]
        assert [part.name for part in found.parts] == ['stem', *stages, *heads]
        for part in found.parts:
            assert part.parameters > 0
            assert (part.flops is None) if part.name == 'auxiliary head' else part.flops > 0

    def test_all_leaves_are_found(self):
        assert len(LEAVES) >= 3 * (4 * len(PAPER_MIXERS) + len(LATER_MIXERS))


@pytest.fixture(scope='module')
def flops():
    found = complexity_of_config(*model_config('configs/mask_rcnn_swin_tiny.py'), (320, 480))
    return {part.name: part.flops for part in found.parts}


class TestHeads:
    """Heads with the sizes of the recipe: 256 channels, 80 classes, five levels."""

    def test_neck(self, flops):
        sizes = [(320 // s) * (480 // s) for s in (4, 8, 16, 32)]
        lateral = sum(256 * dim * size for dim, size in zip((96, 192, 384, 768), sizes, strict=True))
        assert flops['neck'] == lateral + 9 * 256 * 256 * sum(sizes)

    def test_region_proposals(self, flops):
        positions = sum(ceil(320 / s) * ceil(480 / s) for s in (4, 8, 16, 32, 64))
        assert flops['RPN head'] == positions * (9 * 256 * 256 + 256 * 3 + 256 * 3 * 4)

    def test_boxes_of_1000_regions(self, flops):
        per_region = 7 * 7 * 256 * 1024 + 1024 * 1024 + 1024 * (81 + 4 * 80)
        assert flops['box head'] == 1000 * per_region

    def test_masks_of_100_regions(self, flops):
        convolutions = 4 * 9 * 256 * 256 * 14 * 14
        # Each of the 14x14 inputs contributes to 2x2 outputs.
        upsampling = 256 * 256 * 4 * 14 * 14
        assert flops['mask head'] == 100 * (convolutions + upsampling + 256 * 80 * 28 * 28)


@pytest.mark.parametrize('token', MIXERS)
def test_count_is_the_same_on_cpu_and_meta(token):
    """The CPU runs different kernels than the meta device."""
    cfg = read_leaf(f'demo/upernet_{token}_micro')
    model, scope = cfg.model, cfg.default_scope
    real = MODELS.build({**model, '_scope_': scope})
    assert complexity(real, SMALL) == complexity(build_without_values(model, scope), SMALL)


def count_classifiers():
    """Return parameters and multiply-adds of every classifier at 224 pixels, by variant."""
    found = {}
    for variant, config in VARIANTS.items():
        model = {'type': 'ImageClassifier', 'backbone': classifier_config(config)}
        model['data_preprocessor'] = {'type': 'ImgDataPreprocessor'}
        counted = complexity_of_config(ConfigDict(model), 'mmengine', (224, 224))
        found[variant] = {'parameters': counted.parameters, 'flops': counted.flops}
    return found


def test_cost_of_every_scale():
    """The rule for the scales of later mixers, and the table in docs/mixers.md.

    One test, since the counts take half a minute, and would be repeated in every worker.
    """
    counted = count_classifiers()
    assert_later_mixers_cost_the_same_as_those_of_the_paper(counted)
    assert_docs_list_the_scales(counted)


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('mixer', LOWER_BOUNDS)
def test_lower_bounds_have_the_networks_of_swin(mixer, scale):
    own, swin = VARIANTS[f'{mixer}_{scale}'], VARIANTS[f'swin_{scale}']
    assert (own['dims'], own['depths']) == (swin['dims'], swin['depths'])


def assert_later_mixers_cost_the_same_as_those_of_the_paper(classifiers):
    """Check that parameters and FLOPs are within 5 % of the median of the paper's five."""
    mixers = [mixer for mixer in LATER_MIXERS if mixer not in LOWER_BOUNDS]
    for mixer, scale in itertools.product(mixers, SCALES):
        for figure, value in classifiers[f'{mixer}_{scale}'].items():
            median = statistics.median(classifiers[f'{name}_{scale}'][figure] for name in PAPER_MIXERS)
            assert value == pytest.approx(median, rel=0.05), (mixer, scale, figure)


def assert_docs_list_the_scales(classifiers):
    """Check the table in docs/mixers.md; if this fails, replace it with the expected one."""
    marks = '<!-- scales table -->'
    found = (ROOT / 'docs/mixers.md').read_text().split(marks)[1]
    rows = [['mixer', *SCALES], ['---'] * 5]
    for mixer in MIXERS:
        cells = [f'`{mixer}`']
        for scale in SCALES:
            config, cost = VARIANTS[f'{mixer}_{scale}'], classifiers[f'{mixer}_{scale}']
            depths = ', '.join(map(str, config['depths']))
            size = f'{cost["parameters"] / 1e6:.1f} M, {cost["flops"] / 1e9:.2f} G'
            cells.append(f'{config["dims"][0]}; {depths}; {size}')
        rows.append(cells)
    assert found.strip() == '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def test_operator_without_a_formula_is_reported_and_not_counted(monkeypatch):
    model, scope = model_config('configs/upernet_dcn_micro.py')
    whole = complexity_of_config(model, scope, (64, 64))
    monkeypatch.delitem(FORMULAS, 'dense_mixers::dcnv3')
    less = complexity_of_config(model, scope, (64, 64))
    assert less.uncounted_operators == ('dense_mixers::dcnv3',)
    assert less.as_json()['uncounted_operators'] == ['dense_mixers::dcnv3']
    backbone = VARIANTS['dcn_micro']
    samples = [
        5 * 9 * dim * depth * (16 >> stage) ** 2
        for stage, (dim, depth) in enumerate(zip(backbone['dims'], backbone['depths'], strict=True))
    ]
    assert whole.flops - less.flops == sum(samples)


def test_flops_do_not_depend_on_the_orientation():
    """1280x800 and 800x1280 are the same for every operator if windows fit."""
    model, scope = model_config('configs/mask_rcnn_swin_micro.py')
    upright, lying = (complexity_of_config(model, scope, size) for size in ((448, 224), (224, 448)))
    assert upright.flops == lying.flops
    assert (upright.height, upright.width) == (448, 224)


class TestBuilding:
    def test_all_tensors_are_on_the_meta_device(self):
        model = build_without_values(*model_config('configs/mask_rcnn_swin_micro.py'))
        tensors = [*model.parameters(), *model.buffers()]
        assert {tensor.device.type for tensor in tensors} == {'meta'}

    def test_frozen_parameters_stay_frozen(self):
        model = build_without_values(*model_config('configs/mask_rcnn_r50.py'))
        assert not model.backbone.layer1[0].conv1.weight.requires_grad
        assert model.backbone.layer2[0].conv1.weight.requires_grad

    def test_shared_parameters_stay_shared(self):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
                self.other.weight = self.one.weight

        MODELS.register_module(name='Tied', module=Tied, force=True)
        try:
            model = build_without_values({'type': 'Tied'}, None)
        finally:
            del MODELS.module_dict['Tied']
        assert model.other.weight is model.one.weight
        assert sum(parameter.numel() for parameter in model.parameters()) == 9 + 3 + 3

    def test_models_built_afterwards_have_values(self):
        build_without_values(*model_config('configs/upernet_swin_micro.py'))
        assert nn.Linear(2, 2).weight.device.type == 'cpu'
        with pytest.raises(UserError):
            build_without_values({'type': 'UnifiedBackbone'}, None)
        assert nn.Linear(2, 2).weight.device.type == 'cpu'

    def test_random_states_are_unchanged(self):
        model, scope = model_config('configs/mask_rcnn_dcn_micro.py')

        def draw():
            return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

        def seed():
            torch.manual_seed(3)
            np.random.seed(3)
            random.seed(3)

        seed()
        expected = draw()
        seed()
        complexity_of_config(model, scope, (64, 64))
        assert draw() == expected

    def test_config_is_unchanged(self):
        model, scope = model_config('configs/mask_rcnn_pvt_micro.py')
        before = copy.deepcopy(model.to_dict())
        complexity_of_config(model, scope, (64, 64))
        assert model.to_dict() == before


class TestBadInput:
    def refused(self, model, scope, size=None):
        with pytest.raises(UserError) as caught:
            complexity_of_config(model, scope, size)
        assert '\n' not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        ('size', 'message'),
        [((31, 64), 'at least 32'), ((0, 64), 'at least 1'), ((64, -1), 'at least 1')],
    )
    def test_size(self, size, message):
        model, scope = model_config('configs/upernet_swin_micro.py')
        said = self.refused(model, scope, size)
        assert f'{size[0]}x{size[1]} (height x width)' in said
        assert message in said

    def test_unknown_type(self):
        assert 'MaskRCNNN' in self.refused({'type': 'MaskRCNNN'}, 'mmdet')

    def test_mixer_option(self):
        model, scope = model_config('configs/upernet_swin_micro.py')
        model.backbone.mixer.window = 7
        assert "no option 'window'" in self.refused(model, scope)

    def test_channels_that_do_not_fit(self):
        model, scope = model_config('configs/mask_rcnn_swin_micro.py')
        model.neck.in_channels = [1, 2, 3, 4]
        said = self.refused(model, scope, (64, 64))
        assert 'does not run on an image of 64x64 (height x width): neck.lateral_convs.0.conv: ' in said

    def test_unsupported_model(self):
        assert 'supported are two-stage detectors' in self.refused(MICRO['swin_micro'], None)


def test_parts_by_name():
    expected = {
        'backbone.stem.conv1.weight': 'stem',
        'backbone.stages.0.1.mixer.qkv': 'stage 1',
        'backbone.downsamples.0.conv': 'stage 2',
        'backbone.out_norms.3': 'stage 4',
        'backbone.conv1': 'stem',
        'backbone.layer1.0.conv1': 'stage 1',
        'backbone.patch_embed.projection': 'stem',
        'backbone.norm3': 'stage 4',
        'backbone.stages.0.downsample.reduction': 'stage 1',
        'backbone.cls_token': 'backbone (other)',
        'neck.lateral_convs.0': 'neck',
        'roi_head.mask_head.upsample': 'mask head',
        'bbox_head.retina_cls': 'box head',
        'roi_head.bbox_head.2.fc_cls': 'box head',
        'roi_head.shared_head.layer4': 'shared head',
        'encoder.layers.0': 'encoder',
        'query_embedding.weight': 'query embedding',
        '': 'other',
    }
    assert {name: part_of(name) for name in expected} == expected


def test_as_json():
    found = complexity_of_config(*model_config('configs/upernet_convnext_micro.py'), SMALL)
    written = found.as_json()
    assert (written['height'], written['width']) == SMALL
    assert written['flops'] == found.flops
    assert written['flops'] == sum(part['flops'] or 0 for part in written['parts'])
    assert written['norm_flops'] == found.norm_flops > 0
    assert written['flops_with_norms'] == found.flops + found.norm_flops
    assert written['parameters'] == sum(part['parameters'] for part in written['parts'])
    assert written['convention'] == CONVENTION
