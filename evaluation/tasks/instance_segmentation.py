"""Instance segmentation, and detection by models without masks: COCO's average precision."""

from evaluation.tasks.task import Metric, OptionalOutput, PublishedRecipe, Task


def average_precision(kind: str) -> tuple[Metric, ...]:
    """COCO's average precision by one kind of overlap, the mean over thresholds first.

    Args:
        kind: `box` or `mask`.
    """
    symbol = rf'AP$^{{\mathrm{{{kind}}}}}'
    return (
        Metric(f'{kind}_AP', f'{kind} AP', f'{symbol}$', f'{kind} AP', is_primary=True),
        *(
            Metric(f'{kind}_AP{t}', f'{kind} AP{t}', f'{symbol}_{{{t}}}$', f'{kind} AP{t}')
            for t in (50, 75)
        ),
    )


BOX_METRICS, MASK_METRICS = average_precision('box'), average_precision('mask')

INSTANCE_SEGMENTATION = Task(
    key='mask_rcnn',
    title='Mask R-CNN',
    metrics=(*BOX_METRICS, *MASK_METRICS),
    record='evaluation.metrics.evidence.instance_records:InstanceEvidence',
    # Of two-stage detectors, and of those of one stage or with a transformer.
    heads=('roi_head', 'bbox_head'),
    flops_size=(800, 1280),
    analysis='evaluation.analysis.tasks.detectors:Detection',
    optional=OptionalOutput(
        metrics=tuple(metric.name for metric in MASK_METRICS),
        title='Detection',
        obstacle='without masks, published with masks',
        caution='One predicts masks and the other boxes alone: they are compared by boxes.',
    ),
    overlaps=('box', 'mask'),
    published=PublishedRecipe(
        name='mask_rcnn_coco_1x',
        dataset='COCO val2017',
        unit='epochs',
        length=12,
        images=5000,
        start='pretrained',
        batch_size=16,
        figures={('box_AP', False): 'box_ap', ('mask_AP', False): 'mask_ap'},
    ),
)
