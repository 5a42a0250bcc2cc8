"""Small subjects whose figures are known in advance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evaluation.benchmark.passes import Mode, Size
from evaluation.benchmark.subjects import Cost

CPU = Mode(torch.device('cpu'))
SIZE = Size(batch=2, height=8, width=16)


class Mean(nn.Module):
    """A network that calls a function, then scales the images' mean by a parameter."""

    def __init__(self, before: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.before = before

    def forward(self, images: Tensor) -> Tensor:
        self.before(images)
        return self.scale * images.mean()


@dataclass
class Toy:
    """A subject whose network calls `before` with the images of every pass."""

    name: str
    before: Callable[[Tensor], object] = id
    flops: int = 1000
    note: str | None = None
    experiment: Mapping[str, str] | None = None

    def cost(self, size: Size) -> Cost:
        return Cost(parameters=1, flops=self.flops, uncounted_operators=())

    def build(self, size: Size) -> nn.Module:
        return Mean(self.before)

    def part_to_compile(self, module: nn.Module) -> nn.Module:
        return module


def refuse_above(pixels: int) -> Callable[[Tensor], None]:
    """Return a function that raises `MemoryError` on batches with more pixels."""

    def before(images: Tensor) -> None:
        if images[:, 0].numel() > pixels:
            raise MemoryError

    return before
