"""Build models for analysis, from a config and an optional checkpoint."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from backbones import BackboneError
from backbones.checkpoint import fit_weights, local_copy, read_checkpoint, weights_of
from backbones.checkpoint.load_report import some
from evaluation.config.contestants import open_config
from evaluation.config.whole_config import check_config
from evaluation.engine.experiment import backbone_errors_reported
from evaluation.engine.protocol_options import stated_by_checkpoint
from evaluation.models.model_weights import BACKBONE, check_whole, fit_model, forget_pretrained
from evaluation.results.description import describe_checkpoint, weights_sha256
from evaluation.utils.errors import UserError, warn
from evaluation.utils.meta_device import build_without_values
from evaluation.utils.process_groups import process_count
from evaluation.utils.random_state import seeded


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a whole model, or of a backbone or classifier alone.

    Attributes:
        source: path or URL.
        weights: tensors, with the file's own names.
    """

    source: str
    weights: dict[str, Tensor]

    @property
    def is_backbone_alone(self) -> bool:
        """Whether it has no weights of neck and heads."""
        return not any(name.startswith(BACKBONE) for name in self.weights)


def read_analyzed_config(
    file: str,
    options: dict,
    loaders: Sequence[str] = (),
    backbone: str | None = None,
    checkpoint: str | None = None,
) -> Config:
    """Read the config of a model to analyze, and override settings; its data need not exist.

    Args:
        file: path of the config.
        options: overrides.
        loaders: names of its data loaders that will be used.
        backbone: value of `--backbone`; None for that of the config.
        checkpoint: path or URL of its weights, which states the protocol; None without weights.

    Raises:
        UserError: the config cannot be read or is invalid.
    """
    cfg, warnings = open_config(file, backbone, options, stated_by_checkpoint(checkpoint))
    check_config(cfg, loaders, process_count())
    for warning in warnings:
        warn(warning)
    return cfg


def read_weights(source: str, key: str | None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        source: path or URL.
        key: entry that holds the weights; see `weights_of`.

    Raises:
        UserError: the checkpoint cannot be read, or holds no weights.
    """
    with backbone_errors_reported():
        return Checkpoint(source, weights_of(read_checkpoint(source), source, key))


def model_without_values(cfg: Config, checkpoint: Checkpoint | None) -> nn.Module:
    """Build the model on the `meta` device, and check that the weights fit it.

    Raises:
        UserError: the model cannot be built, has no backbone, or the weights do not fit it.
    """
    with backbone_errors_reported(), seeded(0):
        model = build_without_values(cfg.model, cfg.default_scope).eval()
        if not isinstance(getattr(model, 'backbone', None), nn.Module):
            raise UserError(
                f'{type(model).__name__} has no backbone; give the config of a detector or segmentor'
            )
        if checkpoint:
            fitting_weights(model, checkpoint)
    return model


def check_trained(cfg: Config, checkpoint: Checkpoint) -> None:
    """Check that a checkpoint has every weight of the model.

    Raises:
        UserError: the model cannot be built, or the checkpoint has a different model or only a backbone.
    """
    model = model_without_values(cfg, None)
    with backbone_errors_reported():
        fitted, report = fit_model(model, checkpoint.weights, checkpoint.source)
        check_whole(model, fitted, report, checkpoint.source)


def build_model(
    cfg: Config, checkpoint: Checkpoint | None, seed: int, device: torch.device
) -> nn.Module:
    """Build the model in eval mode, with parameters that need no gradient.

    Args:
        cfg: config of the whole model.
        checkpoint: weights of the model; None for random weights, without any pretraining.
        seed: seed of the weights that the checkpoint does not set.
        device: device of the model.

    Raises:
        UserError: the weights do not fit.
    """
    config = copy.deepcopy(cfg.model)
    forget_pretrained(config)
    with (
        backbone_errors_reported(),
        seeded(seed),
        _quiet_initialization(),
        DefaultScope.overwrite_default_scope(cfg.default_scope),
    ):
        model = MODELS.build(config)
        model.init_weights()
        if checkpoint:
            model.load_state_dict(fitting_weights(model, checkpoint), strict=False)
    return model.to(device).eval().requires_grad_(False)


def fitting_weights(model: nn.Module, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """Return a checkpoint's weights with the model's names, for the whole model or its whole backbone.

    Output norms may be missing if the checkpoint holds a backbone alone, since a dense model
    initializes them itself.

    Raises:
        BackboneError: weights are missing, unexpected, or have a different shape.
    """
    source = checkpoint.source
    if not checkpoint.is_backbone_alone:
        fitted, report = fit_model(model, checkpoint.weights, source)
        check_whole(model, fitted, report, source)
        return fitted
    fitted, report = fit_weights(model.backbone, checkpoint.weights, source)
    if not report.is_whole:
        wrong = some(report.mismatched or report.missing or report.unexpected, 2)
        raise BackboneError(
            f'checkpoint {source} does not match the backbone of this config ({wrong}); '
            'use the config that it was trained with'
        )
    return {BACKBONE + name: value for name, value in fitted.items()}


def describe_weights(model: nn.Module, checkpoint: Checkpoint | None) -> dict:
    """Return the digests of the weights and of their file, if there is one."""
    file = local_copy(checkpoint.source) if checkpoint else None
    return describe_checkpoint(file, weights_sha256(model))


@contextmanager
def _quiet_initialization() -> Iterator[None]:
    """Keep mmengine from logging how each parameter was initialized."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
