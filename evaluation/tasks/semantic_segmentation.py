"""Semantic segmentation: mean IoU, class accuracy and pixel accuracy."""

from evaluation.tasks.task import Earlier, Metric, Recipe, Task

SEMANTIC_SEGMENTATION = Task(
    key='semantic_segmentation',
    metrics=(
        Metric(
            'mIoU',
            'mIoU',
            'mIoU',
            'mIoU',
            digits=2,
            is_primary=True,
            published='miou',
            published_augmented='miou_multi_scale',
        ),
        Metric('mAcc', 'mAcc', 'mAcc', 'mAcc', digits=2),
        Metric('aAcc', 'aAcc', 'aAcc', 'aAcc', digits=2),
    ),
    record='evaluation.metrics.class_records:SegmentationEvidence',
    heads=('decode_head',),
    flops_size=(512, 2048),
    analysis='evaluation.analysis.segmentors:Segmentation',
    earlier=Earlier(
        key='upernet',
        recipe=Recipe(
            name='upernet_ade20k_160k',
            task='semantic_segmentation',
            title='UperNet',
            dataset='ADE20K val',
            images=2000,
            iterations=160_000,
            batch_size=16,
            start='pretrained',
        ),
    ),
)
