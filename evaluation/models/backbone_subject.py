"""A backbone under test, and how checks of it become verdicts.

A check gets a `Subject` and returns what it found. It raises `BrokenError` if the backbone breaks the
contract, and `SkippedError` if it cannot tell. Any other exception comes from the backbone and breaks
the contract too, so that no check hides another one.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import mmengine
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evaluation.models.operator_flops import FlopCounter, count_flops
from evaluation.utils.meta_device import parameters_without_values
from evaluation.utils.random_state import seeded

# The first size is used by all checks that need only one; the second is odd on both sides.
SIZES = ((64, 64), (97, 131), (224, 160))

# Images that batch norms get their statistics from; the others are among them.
BATCH = 4
# Keeps divisions finite.
TINY = 1e-12
# Longest message of an exception that is shown in a verdict.
LONGEST = 300
# Significant bits of each precision.
BITS = {torch.float32: 24, torch.bfloat16: 8, torch.float16: 11}
# Largest difference from float32, relative to the norm of a map.
HALF_BOUNDS = {torch.bfloat16: 0.05, torch.float16: 0.01}
# Largest difference between an image alone and in a batch, relative to the largest value of a map:
# libraries choose different algorithms for them.
BATCH_BOUND = 1e-4
# Networks that amplify roundings may differ by more: so many times the effect of rounding weights and
# images once.
HALF_ROUNDINGS = 5
BATCH_ROUNDINGS = 20
# Bits that are few enough for an effect in float32.
FEWER_BITS = 18

OK, FAILED, SKIPPED, NOTE = 'ok', 'FAILED', 'skipped', 'note'


class BrokenError(Exception):
    """The backbone breaks the contract: what is wrong, and what to do."""


class SkippedError(Exception):
    """A check cannot tell; the message says why."""


@dataclass(frozen=True)
class Found:
    """What a check found: one line, figures by name, and whether it is only a note, not a verdict."""

    text: str
    figures: Mapping[str, object] = field(default_factory=dict)
    is_note: bool = False


@dataclass(frozen=True)
class Verdict:
    """Result of a check.

    Attributes:
        check: name of the check.
        status: `ok`, `FAILED`, `skipped` or `note`.
        text: what was found; for `FAILED` also what to do, for `skipped` the reason.
        figures: numbers by name.
        seconds: duration of the check.
        traceback: of the exception that the backbone raised, or ''.
    """

    check: str
    status: str
    text: str
    figures: Mapping[str, object]
    seconds: float
    traceback: str = ''


class Subject:
    """A backbone under test: builds instances, and keeps the one that most checks use.

    Args:
        factory: returns a new backbone; called several times.
        sizes: heights and widths of images.
        seed: seed of weights and images.
    """

    def __init__(
        self,
        factory: Callable[[], nn.Module],
        sizes: Sequence[tuple[int, int]] = SIZES,
        seed: int = 0,
    ) -> None:
        self.factory = factory
        self.sizes = tuple(sizes)
        self.seed = seed
        self._outputs: dict[tuple[int, int], Any] = {}

    def build(self, seed: int | None = None) -> nn.Module:
        """Build a backbone and initialize it as a training does."""
        with seeded(self.seed if seed is None else seed):
            network = self.factory()
            if not isinstance(network, nn.Module):
                raise BrokenError(
                    f'is a {type(network).__name__}, not a torch.nn.Module; derive it from nn.Module'
                )
            if hasattr(network, 'init_weights'):
                network.init_weights()
        return network

    @cached_property
    def network(self) -> nn.Module:
        """A backbone in eval mode whose batch norms have seen a batch."""
        network = self.build()
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        if norms:
            self._estimate_statistics(network, norms)
        network.eval()
        return network

    def _estimate_statistics(self, network: nn.Module, norms: Sequence[_BatchNorm]) -> None:
        """Give batch norms the statistics of a batch; with those of new ones, maps vanish or explode."""
        momenta = [norm.momentum for norm in norms]
        try:
            network.train()
            for norm in norms:
                norm.train().momentum = 1.0
            self.run(network, self.images(BATCH))
        except Exception:  # The check of gradients reports what a training pass raises.
            pass
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum

    def images(self, count: int = 2, size: tuple[int, int] | None = None) -> Tensor:
        """Return the first of `BATCH` images of different contrast and brightness, (B, 3, H, W)."""
        height, width = size or self.sizes[0]
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(BATCH, 3, height, width, generator=generator)
        number = torch.arange(BATCH).view(-1, 1, 1, 1)
        return (noise / (number + 1) + number / BATCH)[:count]

    def run(self, network: nn.Module, images: Tensor) -> Any:
        """Run without gradients on a copy of the images, with the same random numbers each time."""
        with torch.no_grad(), seeded(self.seed):
            return network(images.clone())

    def output(self, size: tuple[int, int] | None = None) -> Any:
        """Return the output in eval mode for two images; computed once for each size."""
        size = size or self.sizes[0]
        if size not in self._outputs:
            self._outputs[size] = self.run(self.network, self.images(2, size))
        return self._outputs[size]

    def count_without_values(self, size: tuple[int, int]) -> FlopCounter:
        """Build a backbone on the `meta` device and count its FLOPs for an image."""
        with parameters_without_values(), seeded(self.seed):
            network = self.factory()
        network.eval()
        return count(network.to('meta'), size)


def count(network: nn.Module, size: tuple[int, int]) -> FlopCounter:
    """Count the FLOPs of a backbone for an image."""
    device = next((value.device for value in network.parameters()), torch.device('cpu'))
    image = torch.zeros(1, 3, *size, device=device)
    with torch.no_grad(), count_flops(network) as counter:
        network(image)
    return counter


CheckFunction = Callable[[Subject], Found]


@dataclass(frozen=True)
class Check:
    """A check, and the names of those that it cannot tell anything without."""

    name: str
    function: CheckFunction
    needs: tuple[str, ...] = ()


def run_checks(
    subject: Subject, checks: Iterable[Check], starting: Callable[[str], None] = lambda name: None
) -> Iterator[Verdict]:
    """Run checks, and yield a verdict as soon as there is one.

    A check that needs another one to be ok is skipped if that one was not.

    Args:
        subject: the backbone.
        checks: checks, after those that they need.
        starting: called with the name of each check before it runs.
    """
    statuses: dict[str, str] = {}
    for check in checks:
        missing = [name for name in check.needs if statuses.get(name, OK) in (FAILED, SKIPPED)]
        if missing:
            verdict = Verdict(check.name, SKIPPED, f'needs "{missing[0]}" to be ok', {}, 0.0)
        else:
            starting(check.name)
            verdict = _verdict(check, subject)
        statuses[check.name] = verdict.status
        yield verdict


def _verdict(check: Check, subject: Subject) -> Verdict:
    start, figures, raised = time.perf_counter(), {}, None
    try:
        found = check.function(subject)
        status, text, figures = NOTE if found.is_note else OK, found.text, found.figures
    except SkippedError as error:
        status, text = SKIPPED, str(error)
    except BrokenError as error:
        status, text, raised = FAILED, str(error), error.__cause__
    except Exception as error:
        status, text, raised = FAILED, summary(error), error
    details = ''.join(traceback.format_exception(raised)) if raised else ''
    return Verdict(check.name, status, text, figures, time.perf_counter() - start, details)


def summary(error: Exception) -> str:
    """Return one line: the exception, and the line of the backbone that raised it."""
    first: BaseException = error
    while first.__context__ is not None:  # mmengine raises a new exception for that of a constructor.
        first = first.__context__
    frames = traceback.extract_tb(first.__traceback__)
    libraries = tuple(f'{Path(library.__file__).parent}{os.sep}' for library in (torch, mmengine))
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    place = (own or frames)[-1]
    message = ' '.join(str(error).split())
    message = message if len(message) <= LONGEST else f'{message[: LONGEST - 3]}...'
    return f'{type(error).__name__}: {message} ({Path(place.filename).name}, line {place.lineno})'


def tensors(output: Any) -> list[Tensor]:
    """Return the tensors of an output: a tensor, or a list, tuple or dict of them."""
    values = list(output.values()) if isinstance(output, Mapping) else output
    if not isinstance(values, (list, tuple)):
        values = [values]
    return [value for value in values if isinstance(value, Tensor)]


def equal(one: Any, other: Any) -> bool:
    """Return whether two outputs have equal bits, apart from NaN and infinite values."""
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    return all(a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def size_text(size: tuple[int, int]) -> str:
    """Return height and width as text: `97x131`."""
    return f'{size[0]}x{size[1]}'


def is_finite(output: Any) -> bool:
    """Return whether an output has no NaN and no infinite value."""
    return all(bool(value.isfinite().all()) for value in tensors(output))


def relative_difference(output: Any, right: Any) -> float:
    """Return the largest norm of a difference of maps, relative to the norm of the right map."""
    pairs = zip(tensors(output), tensors(right), strict=True)
    return max(((own - map_).norm() / map_.norm().clamp_min(TINY)).item() for own, map_ in pairs)


def rounding_effect(subject: Subject, bits: int) -> float:
    """Return the relative change of maps if weights and images are rounded to some significant bits."""
    parameters = subject.network.named_parameters()
    weights = {name: _rounded(value, bits) for name, value in parameters}
    with torch.no_grad(), seeded(subject.seed):
        images = _rounded(subject.images(), bits)
        output = torch.func.functional_call(subject.network, weights, (images,))
    return relative_difference(output, subject.output())


def _rounded(value: Tensor, bits: int) -> Tensor:
    mantissa, exponent = torch.frexp(value.detach())
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent)


def half_bound(subject: Subject, dtype: torch.dtype) -> float:
    """Return how much maps in half precision may differ from float32, relative to their norm."""
    return max(HALF_BOUNDS[dtype], HALF_ROUNDINGS * rounding_effect(subject, BITS[dtype]))


def batch_bound(subject: Subject) -> float:
    """Return how much an image alone and in a batch may differ, relative to the largest value."""
    effect = rounding_effect(subject, FEWER_BITS) * 2.0 ** (FEWER_BITS - BITS[torch.float32])
    return max(BATCH_BOUND, BATCH_ROUNDINGS * effect)


def require_finite(subject: Subject) -> None:
    """Skip a check whose result NaN or infinite values decide.

    Raises:
        SkippedError: maps in eval mode are not finite.
    """
    if not is_finite(subject.output()):
        raise SkippedError('maps have NaN or infinite values in float32')


def autocast(dtype: torch.dtype) -> torch.autocast:
    """Return autocast to a precision; float32 is as it is."""
    return torch.autocast('cpu', dtype, enabled=dtype != torch.float32)


def first_non_finite(subject: Subject, dtype: torch.dtype) -> str:
    """Return `, first in NAME`, with the first module that returns a non-finite value, or ''."""
    found: list[str] = []

    def note(name: str, module: nn.Module, output: Any) -> None:
        if not found and not is_finite(output):
            found.append(f', first in {name or "forward"} ({type(module).__name__})')

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
        for name, module in subject.network.named_modules()
    ]
    try:
        with autocast(dtype):
            subject.run(subject.network, subject.images())
    finally:
        for hook in hooks:
            hook.remove()
    return ''.join(found)
