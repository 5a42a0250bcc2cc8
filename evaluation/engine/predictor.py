"""Predict with trained models, on a data set or on any images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, DefaultScope

from backbones import BackboneError
from backbones.checkpoint import read_checkpoint, weights_of
from evaluation.data.dataset_config import class_names
from evaluation.data.image_loading import checked_pipeline, image_of, with_checked_loading, without_truth
from evaluation.data.startup_checks import check_data
from evaluation.engine.drawing import distinct_palette
from evaluation.engine.experiment import backbone_errors_reported
from evaluation.engine.trained_model import Checkpoint, build_model, check_trained
from evaluation.utils.errors import UserError

IMAGENET_CLASSES = 1000
# Instances with a lower score are not drawn.
SCORE_THRESHOLD = 0.3


@dataclass(frozen=True)
class Predictor:
    """A model with its test pipeline.

    Attributes:
        scope: registry scope of its parts, such as `mmdet`.
        model: model in eval mode.
        pipeline: transforms from `img_path` to the model's input.
        classes: class names, in the order of the labels.
        palette: RGB color of each class.
    """

    scope: str
    model: BaseModel
    pipeline: Compose
    classes: tuple[str, ...]
    palette: list[tuple[int, int, int]]

    def predict(self, images: Sequence[Path], batch_size: int) -> Iterator[Any]:
        """Yield the data sample of each image, on the CPU.

        In mmseg, which does not pad images, a batch only holds images of the same size.

        Raises:
            UserError: an image is too narrow for the backbone.
        """
        # mmdet and mmseg look up some parts by name only when they run.
        with DefaultScope.overwrite_default_scope(self.scope), torch.no_grad():
            batch: list[dict] = []
            for number, image in enumerate(images):
                # mmdet's samples need an id; it is not used to look anything up.
                loaded = self.pipeline({'img_path': str(image), 'img_id': number})
                other_size = batch and loaded['inputs'].shape != batch[0]['inputs'].shape
                if len(batch) == batch_size or (self.scope == 'mmseg' and other_size):
                    yield from self._run(batch)
                    batch = []
                batch.append(loaded)
            yield from self._run(batch)

    def _run(self, batch: list[dict]) -> Iterator[Any]:
        try:
            samples = self.model.test_step(pseudo_collate(batch))
        except BackboneError as error:
            files = ', '.join(str(loaded['data_samples'].img_path) for loaded in batch)
            raise UserError(f'{files}: {error}; omit images this narrow') from error
        for sample in samples:
            yield sample.cpu()


def load_predictor(cfg: Config, source: str, key: str | None, device: torch.device) -> Predictor:
    """Build a model with its weights; its data set need not exist.

    Args:
        cfg: config of the model, with a `test_dataloader`.
        source: path or URL of the checkpoint.
        key: entry of the checkpoint that holds the weights; see `weights_of`.
        device: device of the model.

    Raises:
        UserError: the checkpoint cannot be read or does not fit, or the classes are unknown.
    """
    with backbone_errors_reported():
        content = read_checkpoint(source)
        checkpoint = Checkpoint(source, weights_of(content, source, key))
    check_trained(cfg, checkpoint)
    dataset, scope = cfg.test_dataloader.dataset, cfg.default_scope
    meta = content.get('meta', {}).get('dataset_meta') or {}
    classes = meta.get('classes') or _known_classes(cfg)
    palette = meta.get('palette')
    if not isinstance(palette, (list, tuple)) or len(palette) < len(classes):
        palette = distinct_palette(len(classes))
    with DefaultScope.overwrite_default_scope(scope):
        pipeline = Compose(without_truth(checked_pipeline(dataset, scope)))
    model = build_model(cfg, checkpoint, 0, device)
    return Predictor(scope, model, pipeline, tuple(classes), [tuple(color) for color in palette])


def _known_classes(cfg: Config) -> Sequence[str]:
    """Return the classes of the config's data set, for checkpoints that do not list them.

    Raises:
        UserError: the classes are unknown.
    """
    if cfg.default_scope in ('mmdet', 'mmseg'):
        return class_names(cfg.test_dataloader.dataset, cfg.default_scope)
    count = cfg.model.backbone.get('num_classes', IMAGENET_CLASSES)
    return [str(label) for label in range(count)]


@dataclass(frozen=True)
class Trained:
    """A model with its weights and its data.

    Attributes:
        scope: registry scope of its parts, such as `mmdet`.
        model: model in eval mode.
        dataset: data set with truth.
    """

    scope: str
    model: BaseModel
    dataset: BaseDataset

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""
        return tuple(self.dataset.metainfo['classes'])

    def image(self, index: int) -> np.ndarray:
        """Return an image as the data set loads it, (H, W, 3) uint8, RGB.

        Raises:
            BadFileError: the image is missing or cannot be read.
        """
        return image_of(self.dataset, self.dataset.get_data_info(index)['img_path'])

    def predict(self, index: int) -> Any:
        """Return the data sample of one image, with truth and prediction, on the CPU."""
        # mmdet and mmseg look up some parts by name only when they run.
        with DefaultScope.overwrite_default_scope(self.scope), torch.no_grad():
            sample = self.model.test_step(pseudo_collate([self.dataset[index]]))[0]
            return sample.cpu()


def load_trained(config: Config, name: str, checkpoint: str, loader: str) -> Trained:
    """Build a model with its weights, and its data set.

    Args:
        config: config of the model and the data set.
        name: name of the config in messages.
        checkpoint: path or URL of the checkpoint.
        loader: name of the data loader that has the data set.

    Raises:
        UserError: the data or the checkpoint is missing, or does not fit the config.
    """
    scope = config.default_scope
    check_data(config, [loader])
    with DefaultScope.overwrite_default_scope(scope), backbone_errors_reported():
        model = MODELS.build(config.model)
        dataset = DATASETS.build(with_checked_loading(config[loader].dataset, scope))
        weights = weights_of(read_checkpoint(checkpoint), checkpoint)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'{checkpoint} does not fit {name}: {reason:.200}') from error
    return Trained(scope, model.to(get_device()).eval(), dataset)
