"""A trained model and its test images, as the analyses take them."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from evaluation.analysis.adapter import Adapter, Samples, batches, task_of
from evaluation.analysis.parts import Parts, complete_parts
from evaluation.engine.experiment import use_data
from evaluation.engine.trained_model import (
    build_model,
    check_trained,
    describe_weights,
    read_analyzed_config,
    read_weights,
)
from evaluation.results.description import config_name, versions
from evaluation.utils.devices import own_device

LOADER = 'test_dataloader'


@dataclass(frozen=True)
class Subject:
    """A model to analyze, with its test images.

    Attributes:
        cfg: config of the model.
        model: model in eval mode, on `device`; its parameters need no gradient.
        task: adapter for the model's task.
        samples: samples of the test data set.
        checkpoint: digests of the weights and of their file.
        batch: largest number of images per forward pass.
        device: device that the model runs on.
    """

    cfg: Config
    model: nn.Module
    task: Adapter
    samples: Samples
    checkpoint: dict
    batch: int
    device: torch.device

    def predict(self, images: Sequence[np.ndarray]) -> list:
        """Return predictions for images (H, W, 3), uint8, BGR, of any size, each in its own frame."""
        return [
            prediction
            for batch in batches(images, self.batch)
            for prediction in self.task.predict(self.model, batch)
        ]

    @cached_property
    def images(self) -> dict:
        """Number of images and their digest."""
        return {'count': len(self.samples), 'sha256': self.samples.digest()}

    def as_json(self) -> dict:
        """Return the description that results contain."""
        return {
            'config': {'name': config_name(self.cfg.filename), 'model': self.cfg.model.to_dict()},
            'checkpoint': self.checkpoint,
            'task': self.task.name,
            'images': self.images,
            'batch': self.batch,
        }


def open_subject(arguments: argparse.Namespace) -> Subject:
    """Build the model and open the data that the command line names.

    Args:
        arguments: parsed options of `add_model_arguments` and `add_data_arguments`.

    Raises:
        UserError: the arguments, config, data or checkpoint are invalid.
    """
    cfg = read_analyzed_config(
        arguments.config,
        arguments.cfg_options,
        (LOADER,),
        arguments.backbone,
        arguments.checkpoint,
    )
    device = own_device(arguments.device)
    use_data(cfg, (LOADER,), arguments)
    checkpoint = read_weights(arguments.checkpoint, arguments.checkpoint_key)
    check_trained(cfg, checkpoint)
    model = build_model(cfg, checkpoint, 0, device)
    task = task_of(model)
    return Subject(
        cfg=cfg,
        model=model,
        task=task,
        samples=task.samples(cfg, arguments.limit),
        checkpoint=describe_weights(model, checkpoint),
        batch=arguments.batch,
        device=device,
    )


def complete_subject_parts(
    subject: Subject,
    output: Path,
    settings: Mapping,
    items: Sequence,
    work: Callable[[Sequence], Mapping[str, np.ndarray]],
) -> Parts:
    """Compute the parts of an analysis of a subject, using `complete_parts`.

    Args:
        subject: model and test images.
        output: file of the result.
        settings: everything else that `work` depends on, JSON-serializable.
        items: items to divide into parts.
        work: function from the items of one part to its arrays.

    Raises:
        UserError: there is not enough memory, or an image cannot be read.
        Interrupted: the user interrupted the work; running the same command again resumes it.
    """
    advice = (
        f'a batch of {subject.batch} images; give a smaller --batch, or resize to a smaller size in the '
        f'pipeline of {LOADER}'
    )
    return complete_parts(output, {**facts_of(subject), **settings}, items, work, subject.device, advice)


def facts_of(subject: Subject) -> dict:
    """Return everything that predictions depend on, so that only matching unfinished work is reused."""
    return {
        'model': repr(subject.cfg.model.to_dict()),
        'pipeline': repr(subject.cfg[LOADER].dataset.pipeline),
        'weights': subject.checkpoint['weights_sha256'],
        'images': subject.images,
        'batch': subject.batch,
        'device': subject.device.type,
        'versions': versions(),
    }
