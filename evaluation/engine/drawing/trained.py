"""A trained model with the images that it is tested on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, DefaultScope

from backbones.checkpoint import read_checkpoint, weights_of
from evaluation.data.image_loading import image_of, with_checked_loading
from evaluation.data.startup_checks import check_data
from evaluation.engine.experiment import backbone_errors_reported
from evaluation.utils.errors import UserError

# Instances of a lower score are not drawn.
SCORE_THRESHOLD = 0.3


@dataclass(frozen=True)
class Trained:
    """A model with its weights and its data.

    Attributes:
        scope: whose registries name its parts, such as `mmdet`.
        model: in eval mode.
        dataset: with truth.
    """

    scope: str
    model: BaseModel
    dataset: BaseDataset

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""
        return tuple(self.dataset.metainfo['classes'])

    def image(self, index: int) -> np.ndarray:
        """A picture as the data set loads it, (H, W, 3) uint8, RGB.

        Raises:
            BadFileError: it cannot be used.
        """
        return image_of(self.dataset, self.dataset.get_data_info(index)['img_path'])

    def predict(self, index: int) -> Any:
        """The data sample of one picture, with truth and prediction, on the CPU."""
        # mmdet and mmseg look up some parts by name only when they run.
        with DefaultScope.overwrite_default_scope(self.scope), torch.no_grad():
            sample = self.model.test_step(pseudo_collate([self.dataset[index]]))[0]
            return sample.cpu()


def load_trained(config: Config, name: str, checkpoint: str, loader: str) -> Trained:
    """Build a model with its weights, and its data set.

    Args:
        config: of both.
        name: of the config, in messages.
        checkpoint: path or URL.
        loader: name of the data loader whose data set it is.

    Raises:
        UserError: data or checkpoint are missing, or do not fit the config.
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
