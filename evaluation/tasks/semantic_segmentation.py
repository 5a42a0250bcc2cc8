"""Semantic segmentation: mean IoU, and accuracy of classes and pixels."""

from evaluation.tasks.task import Metric, PublishedRecipe, Task

SEMANTIC_SEGMENTATION = Task(
    key='upernet',
    title='UperNet',
    metrics=(
        Metric('mIoU', 'mIoU', 'mIoU', 'mIoU', digits=2, is_primary=True),
        Metric('mAcc', 'mAcc', 'mAcc', 'mAcc', digits=2),
        Metric('aAcc', 'aAcc', 'aAcc', 'aAcc', digits=2),
    ),
    record='evaluation.metrics.evidence.class_records:SegmentationEvidence',
    heads=('decode_head',),
    flops_size=(512, 2048),
    analysis='evaluation.analysis.tasks.segmentors:Segmentation',
    published=PublishedRecipe(
        name='upernet_ade20k_160k',
        dataset='ADE20K val',
        unit='iterations',
        length=160_000,
        images=2000,
        start='pretrained',
        batch_size=16,
        figures={('mIoU', False): 'miou', ('mIoU', True): 'miou_multi_scale'},
    ),
)
