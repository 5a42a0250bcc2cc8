"""A trained model with its test images: what is predicted of them under many conditions, and kept."""

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
    read_analysed_config,
    read_weights,
)
from evaluation.results.description import config_name, versions
from evaluation.utils.devices import own_device

LOADER = 'test_dataloader'


@dataclass(frozen=True)
class Subject:
    """What is analysed.

    Attributes:
        cfg: its config.
        model: in eval mode, on `device`; its parameters need no gradient.
        task: adapter of the model's task.
        samples: of the test data set.
        checkpoint: digests of the weights and of their file.
        batch: most images in a pass.
        device: where the model runs.
    """

    cfg: Config
    model: nn.Module
    task: Adapter
    samples: Samples
    checkpoint: dict
    batch: int
    device: torch.device

    def predict(self, images: Sequence[np.ndarray]) -> list:
        """Predictions for images (H, W, 3), uint8, BGR, of any sizes, each in its own frame."""
        return [
            prediction
            for batch in batches(images, self.batch)
            for prediction in self.task.predict(self.model, batch)
        ]

    @cached_property
    def images(self) -> dict:
        """Number and digest of the images."""
        return {'count': len(self.samples), 'sha256': self.samples.digest()}

    def as_json(self) -> dict:
        """All that a result says of it."""
        return {
            'config': {'name': config_name(self.cfg.filename), 'model': self.cfg.model.to_dict()},
            'checkpoint': self.checkpoint,
            'task': self.task.name,
            'images': self.images,
            'batch': self.batch,
        }


def open_subject(arguments: argparse.Namespace) -> Subject:
    """Build what the command line names.

    Args:
        arguments: with what `add_model_arguments` and `add_data_arguments` add.

    Raises:
        UserError: something in the arguments, the config, the data or the checkpoint is wrong.
    """
    cfg = read_analysed_config(arguments.config, arguments.cfg_options, (LOADER,))
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
    """Make the parts of an analysis of a subject, as `complete_parts` does.

    Args:
        subject: what is analysed.
        output: name of the result.
        settings: all that `work` depends on beside the subject, which JSON can hold.
        items: what parts are made of.
        work: arrays of the items of one part.

    Raises:
        UserError: memory does not suffice, or an image cannot be read.
        Interrupted: it was interrupted; the command can be repeated to go on.
    """
    advice = (
        f'a batch of {subject.batch} images; give a smaller --batch, or let the pipeline of {LOADER} '
        'resize to less'
    )
    return complete_parts(output, {**facts_of(subject), **settings}, items, work, subject.device, advice)


def facts_of(subject: Subject) -> dict:
    """All that predictions depend on, so that unfinished work of anything else is not taken."""
    return {
        'model': repr(subject.cfg.model.to_dict()),
        'pipeline': repr(subject.cfg[LOADER].dataset.pipeline),
        'weights': subject.checkpoint['weights_sha256'],
        'images': subject.images,
        'batch': subject.batch,
        'device': subject.device.type,
        'versions': versions(),
    }
