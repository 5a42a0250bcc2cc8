"""Instance segmentation, and detection with models without masks: COCO's average precision."""

from dataclasses import replace

from evaluation.tasks.task import Earlier, Metric, OptionalOutput, Recipe, Task


def average_precision(kind: str) -> tuple[Metric, ...]:
    """Return COCO's average precisions for one kind of overlap; the mean over thresholds is first.

    Args:
        kind: `box` or `mask`.
    """
    symbol = rf'AP$^{{\mathrm{{{kind}}}}}'
    return (
        Metric(
            f'{kind}_AP',
            f'{kind} AP',
            f'{symbol}$',
            f'{kind} AP',
            is_primary=True,
            published=f'{kind}_ap',
        ),
        *(
            Metric(f'{kind}_AP{t}', f'{kind} AP{t}', f'{symbol}_{{{t}}}$', f'{kind} AP{t}')
            for t in (50, 75)
        ),
    )


BOX_METRICS, MASK_METRICS = average_precision('box'), average_precision('mask')

MASK_RCNN = Recipe(
    name='mask_rcnn_coco_1x',
    task='instance_segmentation',
    title='Mask R-CNN',
    dataset='COCO val2017',
    images=5000,
    epochs=12,
    batch_size=16,
    start='pretrained',
    multi_scale=False,
)

INSTANCE_SEGMENTATION = Task(
    key='instance_segmentation',
    metrics=(*BOX_METRICS, *MASK_METRICS),
    record='evaluation.metrics.instance_records:InstanceEvidence',
    # Two-stage detectors; one-stage and transformer detectors.
    heads=('roi_head', 'bbox_head'),
    flops_size=(800, 1280),
    analysis='evaluation.analysis.detectors:Detection',
    optional=OptionalOutput(
        metrics=tuple(metric.name for metric in MASK_METRICS),
        title='Detection',
        obstacle='without masks, published with masks',
        caution='One predicts masks and the other only boxes, so they are compared by boxes.',
    ),
    overlaps=('box', 'mask'),
    earlier=Earlier(
        key='mask_rcnn',
        recipe=MASK_RCNN,
        longer=(replace(MASK_RCNN, name='mask_rcnn_coco_3x', epochs=36, multi_scale=True),),
    ),
)
