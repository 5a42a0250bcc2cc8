"""Adapter for classification: compares the class scores of an image with its label."""

import backbones  # noqa: F401  isort: skip  (before mmdet, which needs its operators)
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope
from torch import nn

from evaluation.analysis.adapter import Sample, Samples, as_tensors, open_samples, test_dataset
from evaluation.data.dataset_config import step_name
from evaluation.data.imagenet import TimmTransforms
from evaluation.metrics.class_metrics import GUESSES
from evaluation.models.classifier import ImageClassifier
from evaluation.utils.errors import UserError

IMAGES = 'images'
CROSS_ENTROPY = 'cross-entropy'


class Classification:
    """Adapter for classification: truths are class indices, predictions are logits (classes,)."""

    name = 'classification'
    is_cropped = True
    loss_takes_one = False

    @classmethod
    def of(cls, model: nn.Module) -> 'Classification | None':
        """Return the adapter for a model; None if it has a different task."""
        return cls() if isinstance(model, ImageClassifier) else None

    def samples(self, cfg: Config, limit: int | None) -> Samples:
        """Return the images of the config's test data set, resized and cropped by its pipeline.

        Raises:
            UserError: the pipeline has no `TimmTransforms`.
        """
        before, transforms = split_pipeline(cfg)

        def make(results: dict) -> Sample:
            original = results['img']
            image = transforms.transform(dict(results))['img'].numpy().transpose(1, 2, 0)
            return Sample(
                results['img_path'], np.ascontiguousarray(image), results['gt_label'], original
            )

        return open_samples(cfg, limit, before, make)

    def predict(self, model: nn.Module, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return logits (classes,), float64, for each image (H, W, 3); all images have the same size."""
        inputs = model.data_preprocessor({'inputs': as_tensors(images)})['inputs']
        with torch.no_grad():
            return [*model(inputs, mode='tensor').double().cpu().numpy()]

    def measure(self, prediction: np.ndarray, truth: int) -> dict[str, np.ndarray]:
        """Return top-1 and top-5 hits, and the cross-entropy in nats.

        Tied scores are ranked by class index.
        """
        guesses = np.argsort(-prediction, kind='stable')[:GUESSES]
        return {
            IMAGES: np.int64(1),
            'top-1': np.int64(guesses[0] == truth),
            'top-5': np.int64(truth in guesses),
            CROSS_ENTROPY: -log_probabilities(prediction)[truth],
        }

    def combined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Return the sum of the arrays, in order."""
        return sum(arrays[1:], start=arrays[0])

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return `top-1` and `top-5` in percent, and the mean cross-entropy in nats."""
        images = float(arrays[IMAGES])
        found = {name: 100 * float(arrays[name]) / images for name in ('top-1', 'top-5')}
        return {**found, CROSS_ENTROPY: float(arrays[CROSS_ENTROPY]) / images}


def split_pipeline(cfg: Config) -> tuple[list[dict], TimmTransforms]:
    """Split the test pipeline into the steps before `TimmTransforms` and that transform.

    Raises:
        UserError: the pipeline has no `TimmTransforms`.
    """
    pipeline = test_dataset(cfg).pipeline
    places = [i for i, step in enumerate(pipeline) if step_name(step) == TimmTransforms.__name__]
    if not places:
        raise UserError(
            f'the pipeline of test_dataloader in {cfg.filename} has no {TimmTransforms.__name__}; '
            'use it to resize and crop'
        )
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return list(pipeline[: places[0]]), TRANSFORMS.build(dict(pipeline[places[0]]))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the log-softmax, (classes,) -> (classes,)."""
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())
