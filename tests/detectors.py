"""Detector configs of mmdet, with a backbone of the suite."""

from pathlib import Path

import mmdet
from mmengine.config import Config, ConfigDict

CONFIGS = Path(mmdet.__file__).parent / '.mim/configs'
DIMS = (8, 16, 32, 64)
# Detectors without masks: one-stage with and without anchors, and two-stage.
BOX_DETECTORS = {
    'RetinaNet': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'FCOS': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'ATSS': 'atss/atss_r50_fpn_1x_coco.py',
    'Faster R-CNN': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'Cascade R-CNN': 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
}


def published_model(file: str) -> ConfigDict:
    """Return the model of one of mmdet's configs, without pretrained weights."""
    model = Config.fromfile(CONFIGS / file).model
    model.backbone.init_cfg = None
    return model


def micro_detector(file: str, classes: int) -> ConfigDict:
    """Return the same model with a small backbone of the suite and no score threshold."""
    model = published_model(file)
    model.backbone = ConfigDict(
        type='UnifiedBackbone',
        mixer=dict(type='convnext'),
        dims=list(DIMS),
        depths=[1, 1, 1, 1],
        layer_scale_init_value=1.0,
    )
    model.neck.in_channels = list(DIMS)
    heads = model.roi_head.bbox_head if 'roi_head' in model else model.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.num_classes = classes
    model.test_cfg.get('rcnn', model.test_cfg).score_thr = 0.0
    return model
