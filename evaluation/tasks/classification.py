"""Classification of images: the share whose class is among the first guesses."""

from evaluation.tasks.task import Metric, PublishedRecipe, Task

CLASSIFICATION = Task(
    key='imagenet',
    title='Classification',
    metrics=(
        Metric('top1', 'top-1', 'top-1', 'top-1 accuracy', is_primary=True, is_share=True),
        Metric('top5', 'top-5', 'top-5', 'top-5 accuracy', is_share=True),
    ),
    record='evaluation.metrics.evidence.class_records:ClassificationEvidence',
    heads=('backbone.head',),
    flops_size=(224, 224),
    analysis='evaluation.analysis.tasks.classifiers:Classification',
    published=PublishedRecipe(
        name='imagenet',
        dataset='ImageNet-1k val',
        unit='epochs',
        length=300,
        images=50_000,
        start='scratch',
        batch_size=1024,
        figures={('top1', False): 'top1'},
        any_length=True,
        batch_sizes={'convnext': 4096, 'dcn': 4096},
    ),
)
