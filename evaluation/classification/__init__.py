"""Image classification, as ImageNet does it: data, model and metric for mmengine's runner."""

from evaluation.classification.accuracy import AccuracyMetric
from evaluation.classification.classifier import ImageClassifier
from evaluation.classification.dataset import ImageNetDataset
from evaluation.classification.preprocessor import ClassificationPreprocessor
from evaluation.classification.transforms import PackClassification, TimmTransforms

__all__ = [
    'AccuracyMetric',
    'ClassificationPreprocessor',
    'ImageClassifier',
    'ImageNetDataset',
    'PackClassification',
    'TimmTransforms',
]
