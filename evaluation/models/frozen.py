"""Freeze the backbone of a model, so that only neck and heads train."""

import functools
from collections.abc import Mapping

import torch
from torch import nn

from evaluation.models.classifier import ImageClassifier
from evaluation.tasks import FROZEN, LINEAR
from evaluation.utils.errors import UserError
from evaluation.utils.meta_device import build_without_values
from evaluation.utils.random_state import seeded

# Names of the head in classifiers: of the suite, and of modules of users.
HEADS = ('conv_head', 'head')
# Feature pyramid in the backbone class of a plain vision transformer, which has no pretrained weights.
PYRAMID = 'pyramid'
LINEAR_HEAD = 'LinearHead'


def freeze_backbone(model: nn.Module, protocol: str) -> None:
    """Freeze the backbone of a detector or segmentor; of a classifier, all but its head.

    The feature pyramid of a plain vision transformer trains, as a neck does.

    Its parameters need no gradient, it stays in eval mode after `model.train()`, and a backbone whose
    maps go to a neck or head computes them without a graph. Call this before the model is wrapped and
    before the optimizer is built.

    Args:
        model: model with a `backbone`; changed.
        protocol: `frozen` or `linear`.

    Raises:
        UserError: the model has no backbone, the head of its classifier is unknown, or a linear probe
            would train something else than a linear head.
    """
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise UserError(f'{type(model).__name__} has no backbone to freeze; omit --protocol')
    # Compare names, because importing mmseg would take trainings of other tasks seconds.
    if protocol == LINEAR and type(getattr(model, 'decode_head', None)).__name__ != LINEAR_HEAD:
        raise UserError(
            f'the recipe states the protocol {LINEAR}, but the model has no {LINEAR_HEAD}; give '
            f'--protocol {LINEAR} instead'
        )
    is_classifier = isinstance(model, ImageClassifier)
    trained = head_names(backbone) if is_classifier else pyramid_names(backbone)
    if trained and protocol == LINEAR:
        raise UserError(
            f'--protocol {LINEAR}: {type(backbone).__name__} would train its feature pyramid, which is '
            f'not linear; give --protocol {FROZEN}, or a backbone with maps at several strides'
        )
    backbone.requires_grad_(False)
    for name in trained:
        backbone.get_submodule(name).requires_grad_(True)
    backbone.trained_parts = trained
    backbone.__class__ = frozen_class(type(backbone))
    backbone.train(backbone.training)


def pyramid_names(backbone: nn.Module) -> tuple[str, ...]:
    """Return the name of the feature pyramid that a backbone has, if any."""
    return (PYRAMID,) if isinstance(getattr(backbone, PYRAMID, None), nn.Module) else ()


def head_names(classifier: nn.Module) -> tuple[str, ...]:
    """Return the names of the modules of a classifier that make up its head.

    Raises:
        UserError: the classifier has none that the suite knows.
    """
    network = getattr(classifier, 'network', None)
    if hasattr(network, 'get_classifier'):
        heads = network.get_classifier()
        heads = heads if isinstance(heads, (list, tuple)) else [heads]
        wanted = {id(head) for head in heads}
        names = [name for name, module in classifier.named_modules() if id(module) in wanted]
    else:
        names = [name for name in HEADS if isinstance(getattr(classifier, name, None), nn.Module)]
    if not any(next(classifier.get_submodule(name).parameters(), None) is not None for name in names):
        raise UserError(
            f'--protocol frozen trains the head of a classifier, but {type(classifier).__name__} has no '
            f'module named {" or ".join(HEADS)}; name its last layer `head`'
        )
    return tuple(names)


@functools.cache
def frozen_class(network: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass of a network that stays in eval mode and, unless a part trains, has no graph.

    A class, and not a hook or a wrapper: names of weights stay the same, copies of the model stay
    frozen, and `torch.compile` sees one forward function.
    """

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        network.train(self, False)
        for name in self.trained_parts:
            self.get_submodule(name).train(mode)
        return self

    def forward(self: nn.Module, *inputs: object) -> object:
        if self.trained_parts:
            return network.forward(self, *inputs)
        with torch.no_grad():
            return network.forward(self, *inputs)

    names = {'__module__': network.__module__, '__qualname__': network.__qualname__}
    return type(network.__name__, (network,), {'train': train, 'forward': forward, **names})


def trainable_of_config(model: Mapping, scope: str | None, protocol: str | None) -> int:
    """Return the number of parameters of a model that train, without data or weights.

    Args:
        model: config of the model; not changed.
        scope: scope of the registry for its parts.
        protocol: protocol of the training; None if the whole network trains.

    Raises:
        UserError: the protocol does not fit the model.
    """
    with seeded(0):
        built = build_without_values(model, scope)
    if protocol:
        freeze_backbone(built, protocol)
    return trainable_parameters(built)


def trainable_parameters(model: nn.Module) -> int:
    """Return the number of parameters that need a gradient."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
