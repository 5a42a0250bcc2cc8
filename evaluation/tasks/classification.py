"""Image classification: top-1 and top-5 accuracy."""

from evaluation.tasks.task import Earlier, Metric, Recipe, Task

CLASSIFICATION = Task(
    key='classification',
    metrics=(
        Metric(
            'top1', 'top-1', 'top-1', 'top-1 accuracy', is_primary=True, is_share=True, published='top1'
        ),
        Metric('top5', 'top-5', 'top-5', 'top-5 accuracy', is_share=True),
    ),
    record='evaluation.metrics.class_records:ClassificationEvidence',
    heads=('backbone.head',),
    flops_size=(224, 224),
    analysis='evaluation.analysis.classifiers:Classification',
    earlier=Earlier(
        key='imagenet',
        recipe=Recipe(
            name='imagenet',
            task='classification',
            title='Classification',
            dataset='ImageNet-1k val',
            images=50_000,
            epochs=300,
            batch_size=1024,
            start='scratch',
            any_length=True,
        ),
    ),
)
