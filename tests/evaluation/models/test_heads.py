"""FLOPs and passes of heads of every kind, compared with published figures and formulas."""

import copy
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import backbones  # noqa: F401  (before mmdet and mmseg, which need its operators)
from evaluation.benchmark.passes import tensors_of
from evaluation.models.complexity import complexity_of_config
from evaluation.models.heads import run_parts
from evaluation.utils.errors import UserError
from tests.detectors import BOX_DETECTORS, micro_detector, published_model
from tests.evaluation.models.test_complexity import SWIN_T, SWIN_T_DIMS

pytestmark = pytest.mark.habits

SEGMENTORS = Path(mmseg.__file__).parent / '.mim/configs'
CASCADE = 'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'


def counted(model, scope='mmdet', size=None):
    found = complexity_of_config(model, scope, size)
    assert found.uncounted_operators == ()
    return found, {part.name: part.flops for part in found.parts}


def counted_by_layers(model, scope, size):
    """Return the multiply-adds of all convolutions and linear layers of a model without RoIs."""
    with DefaultScope.overwrite_default_scope(scope), torch.device('meta'):
        built = MODELS.build(model).eval()
    counts = []
    for layer in built.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(
                lambda layer, _, output: counts.append(output.numel() * layer.weight[0].numel())
            )
    with DefaultScope.overwrite_default_scope(scope), torch.no_grad():
        built(torch.zeros(1, 3, *size, device='meta'), mode='tensor')
    return sum(counts)


def test_published_figure_of_retinanet():
    """Source: documentation of mmdet's get_flops.py, which does not count frozen parameters."""
    found, _ = counted(published_model('retinanet/retinanet_r50_fpn_1x_coco.py'))
    assert (found.height, found.width) == (800, 1280)
    assert found.parameters / 1e6 == pytest.approx(37.7, rel=0.01)
    # The published figure includes norms, which are less than half a percent.
    assert 0.995 * 239.3 < found.flops / 1e9 <= 239.3


def test_published_parameters_of_detr():
    """Source: arXiv 2005.12872, table 1."""
    found, _ = counted(published_model('detr/detr_r50_8xb2-150e_coco.py'))
    assert found.parameters / 1e6 == pytest.approx(41.3, rel=0.01)


@pytest.mark.parametrize(
    'file',
    [
        'retinanet/retinanet_r50_fpn_1x_coco.py',
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        'atss/atss_r50_fpn_1x_coco.py',
    ],
)
def test_detectors_without_rois_layer_by_layer(file):
    model = published_model(file)
    found, _ = counted(model)
    assert found.flops == counted_by_layers(model, 'mmdet', (found.height, found.width))


def test_formula_of_a_box_head_of_rois():
    """Faster R-CNN: two layers and two outputs for each of 1,000 proposals."""
    _, parts = counted(published_model('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'))
    per_proposal = 256 * 7 * 7 * 1024 + 1024 * 1024 + 1024 * (81 + 4 * 80)
    assert parts['box head'] == 1000 * per_proposal


@pytest.fixture
def cascade():
    """Cascade Mask R-CNN with the heads of Swin's repository: four convolutions and a linear layer."""
    model = published_model(CASCADE)
    for head in model.roi_head.bbox_head:
        head.update(
            type='ConvFCBBoxHead',
            num_shared_convs=4,
            num_shared_fcs=1,
            conv_out_channels=256,
            norm_cfg=dict(type='BN'),
            reg_class_agnostic=False,
        )
    return model


@pytest.mark.parametrize(('backbone', 'millions', 'billions'), [('R50', 82, 739), ('Swin-T', 86, 745)])
def test_published_figures_of_a_cascade(cascade, backbone, millions, billions):
    """Source: arXiv 2103.14030, table 2."""
    if backbone == 'Swin-T':
        cascade.backbone = ConfigDict(SWIN_T)
        cascade.neck.in_channels = SWIN_T_DIMS
    found, _ = counted(cascade)
    assert round(found.parameters / 1e6) == millions
    assert found.flops / 1e9 == pytest.approx(billions, rel=0.002)


def test_every_stage_of_a_cascade_is_counted():
    _, three = counted(published_model(CASCADE), size=(64, 96))
    model = published_model(CASCADE)
    model.roi_head.num_stages = 1
    model.roi_head.bbox_head = model.roi_head.bbox_head[:1]
    model.roi_head.stage_loss_weights = [1]
    model.train_cfg.rcnn = model.train_cfg.rcnn[:1]
    _, one = counted(model, size=(64, 96))
    assert three['box head'] == 3 * one['box head']
    assert three['mask head'] == 3 * one['mask head']
    assert three['neck'] == one['neck']


def test_formula_of_a_dense_head():
    """RetinaNet: four convolutions each for classes and boxes, and 9 anchors per position."""
    _, parts = counted(published_model('retinanet/retinanet_r50_fpn_1x_coco.py'), size=(256, 384))
    positions = sum((256 // s) * (384 // s) for s in (8, 16, 32, 64, 128))
    per_position = 9 * 256 * (2 * 4 * 256 + 9 * (80 + 4))
    assert parts['box head'] == positions * per_position


@pytest.mark.parametrize(
    ('file', 'millions', 'billions'),
    [
        # arXiv 2105.15203 (SegFormer), table 1a.
        ('segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py', 3.8, 8.4),
        # arXiv 2102.12122 (PVT), table 5.
        ('sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py', 28.5, 45.6),
    ],
)
def test_published_figures_of_segmentors(file, millions, billions):
    model = Config.fromfile(SEGMENTORS / file).model
    found, _ = counted(model, 'mmseg', (512, 512))
    assert found.parameters / 1e6 == pytest.approx(millions, rel=0.015)
    assert found.flops / 1e9 == pytest.approx(billions, rel=0.005)


@pytest.mark.parametrize(
    'file',
    [
        'fcn/fcn_r50-d8_4xb4-160k_ade20k-512x512.py',
        'deeplabv3/deeplabv3_r50-d8_4xb4-160k_ade20k-512x512.py',
        'deeplabv3plus/deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py',
    ],
)
def test_segmentors_layer_by_layer(file):
    model = Config.fromfile(SEGMENTORS / file).model
    found, _ = counted(model, 'mmseg', (256, 384))
    assert found.flops == counted_by_layers(model, 'mmseg', (256, 384))


def test_cascade_of_decode_heads():
    """OCRNet: the part includes both heads."""
    model = Config.fromfile(SEGMENTORS / 'ocrnet/ocrnet_hr18_4xb4-160k_ade20k-512x512.py').model
    _, both = counted(model, 'mmseg', (64, 64))
    first = copy.deepcopy(model)
    first.update(type='EncoderDecoder', decode_head=model.decode_head[0])
    first.pop('num_stages')
    _, one = counted(first, 'mmseg', (64, 64))
    assert both['decode head'] > one['decode head'] > 0


def test_parts_of_a_transformer_have_their_own_names():
    _, parts = counted(published_model('detr/detr_r50_8xb2-150e_coco.py'), size=(256, 256))
    assert {'neck', 'encoder', 'decoder', 'box head'} <= parts.keys()
    assert min(parts[name] for name in ('encoder', 'decoder', 'box head')) > 0
    assert 'other' not in parts


@pytest.mark.parametrize(
    ('file', 'message'),
    [
        (
            'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
            'DeformableDETR .* depends on values of tensors',
        ),
        ('sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py', 'SparseRoIHead passes its heads more'),
        ('double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py', 'DoubleHeadRoIHead passes its heads more'),
        ('point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py', r'its roi_head\.point_head'),
        ('condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py', 'CondInst .* its mask_head'),
        ('solo/solo_r50_fpn_1x_coco.py', 'SOLO .* supported are two-stage detectors'),
    ],
)
def test_heads_that_cannot_be_run_separately_are_refused(file, message):
    with pytest.raises(UserError, match=message) as caught:
        complexity_of_config(published_model(file), 'mmdet', (64, 64))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', BOX_DETECTORS)
def test_heads_run_and_learn_on_images(name):
    """Every parameter of the heads gets a gradient, as in the passes of `tools/benchmark.py`."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(micro_detector(BOX_DETECTORS[name], 2))
    outputs = tensors_of(run_parts(model.train(), torch.randn(1, 3, 64, 64)))
    assert outputs
    sum(output.float().mean() for output in outputs).backward()
    heads = [name for name, _ in model.named_parameters() if 'head' in name]
    assert heads
    assert all(dict(model.named_parameters())[each].grad is not None for each in heads)
