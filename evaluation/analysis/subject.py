"""A trained model with its test images: what is predicted of them under many conditions, and kept."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from evaluation.analysis.parts import Parts, combined, complete, key_of
from evaluation.analysis.tasks.adapter import Adapter, Sample, Samples, batches, task_of
from evaluation.engine.experiment import use_data
from evaluation.engine.trained_model import (
    build_model,
    check_trained,
    describe_weights,
    read_analysed_config,
    read_weights,
)
from evaluation.results.description import config_name
from evaluation.results.provenance import versions
from evaluation.utils.devices import own_device
from evaluation.utils.errors import UserError
from evaluation.utils.memory import OutOfMemoryError, out_of_memory_raised, refused_beyond_free_memory

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


def measure_all(
    subject: Subject,
    output: Path,
    settings: Mapping,
    measure: Callable[[Sample], Mapping[str, np.ndarray]],
) -> Parts:
    """Measure every image; this process takes its share where there are several.

    Args:
        subject: what is analysed.
        output: name of the result; unfinished work is kept beside it until `Parts.remove`.
        settings: all that `measure` depends on beside the subject, which JSON can hold.
        measure: arrays of one image, by name, that `subject.task.combined` puts together.

    Returns:
        The finished parts.

    Raises:
        UserError: memory does not suffice, or an image cannot be read.
        Interrupted: it was interrupted; the command can be repeated to go on.
    """

    def work(share: Sequence[int]) -> dict[str, np.ndarray]:
        return combined((measure(subject.samples[index]) for index in share), subject.task.combined)

    key = key_of({**facts_of(subject), **settings})
    parts = Parts(output.with_suffix('.partial') / key, len(subject.samples))
    with memory_explained(subject):
        complete(parts, range(len(subject.samples)), work)
    return parts


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


@contextmanager
def memory_explained(subject: Subject) -> Iterator[None]:
    """Say which option to change where memory does not suffice.

    Raises:
        UserError: it does not.
    """
    try:
        with out_of_memory_raised(subject.device), refused_beyond_free_memory(subject.device):
            yield
    except OutOfMemoryError:
        raise UserError(
            f'memory does not suffice for a batch of {subject.batch} images; give a smaller --batch, '
            f'or let the pipeline of {LOADER} resize to less'
        ) from None
