"""A small backbone, and variants that each break one point of the contract."""

from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """Convolutions with group norms; maps at strides 4, 8, 16 and 32 with 8, 16, 32 and 64 channels."""

    def __init__(self, strides: tuple[int, ...] = (2, 2, 2, 2)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_dim, dim, 3, stride=stride, padding=1), nn.GroupNorm(1, dim), nn.GELU()
            )
            for in_dim, dim, stride in zip((8, 8, 16, 32), (8, 16, 32, 64), strides, strict=True)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class Changed(Net):
    """Changes the maps of `Net`, each by the same function."""

    def change(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.change(each) for each in super().forward(x))


class NotBuilt(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(self.width)


class OneMap(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[-1]


class ThreeMaps(Net):
    def forward(self, x: Tensor) -> list[Tensor]:
        return list(super().forward(x)[1:])


class NamedMaps(Net):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {f'res{index}': each for index, each in enumerate(super().forward(x), 2)}


class ChannelsLast(Changed):
    def change(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class FlatMaps(Changed):
    def change(self, x: Tensor) -> Tensor:
        return x.flatten(2)


class DividesByZero(Changed):
    """A hand-written norm without epsilon, of maps of which some are constant."""

    def change(self, x: Tensor) -> Tensor:
        constant = x * 0
        return constant / constant.std((2, 3), keepdim=True)


class StridesFromTwo(Net):
    def __init__(self) -> None:
        super().__init__(strides=(1, 2, 2, 2))


class RoundsDown(Net):
    """Convolutions of 2x2 without padding: half a size is rounded down."""

    def __init__(self) -> None:
        super().__init__()
        self.stages[-1][0] = nn.Conv2d(32, 64, 2, stride=2)


class EvenSizesOnly(Net):
    """Merges patches of 2x2 by a view, like Swin Transformer without its padding."""

    def __init__(self) -> None:
        super().__init__(strides=(2, 1, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stages[0](self.stem(x))
        maps = [x]
        for stage in self.stages[1:]:
            batch, channels, height, width = x.shape
            x = stage(x.view(batch, channels, height // 2, 2, width // 2, 2).mean((3, 5)))
            maps.append(x)
        return tuple(maps)


class WrongDims(Net):
    dims = (8, 16, 32, 32)


class ChannelsBySize(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        *maps, last = super().forward(x)
        return (*maps, torch.cat([last] * (1 + last.shape[-1] // 7), 1))


class EnlargesSmallImages(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if min(x.shape[-2:]) < 32:
            x = F.interpolate(x, size=(32, 32))
        return super().forward(x)


class AlwaysDropsOut(Changed):
    def change(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.1)


class BatchCoupled(Changed):
    def change(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


class ChangesItsInput(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return super().forward(x.sub_(0.5))


class UnusedParameter(Net):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)


class InfiniteGradient(Changed):
    """The gradient of a square root is infinite at 0."""

    def change(self, x: Tensor) -> Tensor:
        return (x * (x > 0)).sqrt()


class OverflowsInHalf(Changed):
    """A hand-written softmax without subtracting the maximum: exp(12) is infinite in float16."""

    def change(self, x: Tensor) -> Tensor:
        weights = torch.exp(5 * x)
        return weights / weights.sum(1, keepdim=True)


class VanishesInHalf(Changed):
    """A hand-written norm over channels: the sum of squares is infinite in float16, and the map 0."""

    def change(self, x: Tensor) -> Tensor:
        x = 200 * x
        return x / (x * x).sum(1, keepdim=True).sqrt()


class HiddenState(Changed):
    """Random features that the state dict does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('offset', torch.randn(()), persistent=False)

    def change(self, x: Tensor) -> Tensor:
        return x + self.offset


class StaysInTrainMode(Net):
    def train(self, mode: bool = True) -> 'StaysInTrainMode':
        return self


class StaysInEvalMode(Net):
    def train(self, mode: bool = True) -> 'StaysInEvalMode':
        return super().train(False)


class HasALambda(Changed):
    def __init__(self) -> None:
        super().__init__()
        self.change = lambda x: x + 1


class BranchesOnValues(Changed):
    def change(self, x: Tensor) -> Tensor:
        return x * 2 if (x > 10).any() else x


class FourierTransform(Changed):
    """A filter of frequencies, as in GFNet, whose operators have no formula."""

    def change(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(x.float(), norm='ortho').abs().mean((2, 3), keepdim=True) + x


class KnowsNoLayers(Net):
    num_layers = 4

    def layer_of(self, name: str) -> int:
        return {'stem.weight': 0, 'stem.bias': 0}.get(name, 5)


class OneMean(Net):
    normalization = MappingProxyType({'mean': [127.5], 'std': [127.5]})


class NormalizedToOne(Net):
    normalization = MappingProxyType({'mean': [0.5, 0.5, 0.5], 'std': [0.2, 0.2, 0.2]})


# Class, the only check that it fails, and parts of the message.
BROKEN = [
    (NotBuilt, 'builds', "has no attribute 'width'", 'broken_backbones.py, line'),
    (OneMap, 'maps', 'returns one tensor of shape (2, 64, 2, 2)', 'return a tuple of four maps'),
    (ThreeMaps, 'maps', 'returns 3 maps'),
    (NamedMaps, 'maps', 'returns a dict'),
    (ChannelsLast, 'maps', 'maps are (B, H, W, C), such as (2, 16, 16, 8)', 'permute(0, 3, 1, 2)'),
    (FlatMaps, 'maps', 'output 0 has shape (2, 8, 256) for 2 images'),
    (DividesByZero, 'maps', 'map 0 has NaN or infinite values'),
    (StridesFromTwo, 'strides', 'map 0 is 32x32 for an image of 64x64', 'not 16x16'),
    (RoundsDown, 'strides', 'map 3 is 3x4 for an image of 97x131', 'not 4x5'),
    (EvenSizesOnly, 'strides', 'images of 97x131: RuntimeError: shape', 'broken_backbones.py, line'),
    (WrongDims, 'channels', '[8, 16, 32, 64] channels, but dims is [8, 16, 32, 32]'),
    (ChannelsBySize, 'channels', '[8, 16, 32, 64] at 64x64 and [8, 16, 32, 128] at 100x256'),
    (EnlargesSmallImages, 'small images', 'map 0 is 8x8 for an image of 16x16', 'not 4x4'),
    (AlwaysDropsOut, 'determinism', 'two passes in eval mode differ'),
    (BatchCoupled, 'batch invariance', 'an image alone and in a batch of 3 differ by'),
    (ChangesItsInput, 'input', 'modifies its input'),
    (UnusedParameter, 'gradients', '2 of 20 parameters get no gradient, first head.weight'),
    (InfiniteGradient, 'gradients', 'have NaN or infinite values'),
    (OverflowsInHalf, 'float16', 'map 0 has NaN or infinite values, first in forward (OverflowsInHalf)'),
    (VanishesInHalf, 'float16', 'maps differ from float32 by', 'in float32, with torch.autocast'),
    (HiddenState, 'state dict', 'the same state dict returns different maps'),
    (StaysInTrainMode, 'train and eval', 'after eval(), itself is in train mode'),
    (StaysInEvalMode, 'train and eval', 'after train(), it is in eval mode'),
    (HasALambda, 'copies', 'pickle', 'avoid lambdas'),
    (BranchesOnValues, 'meta device', 'do not branch on their values'),
    (FourierTransform, 'FLOPs', 'aten::_fft_r2c'),
    (KnowsNoLayers, 'layer decay', "layer_of('stages.0.0.weight') is 5", 'from 0 to num_layers=4'),
    (OneMean, 'normalization', 'give dict(mean=[...], std=[...])'),
    (NormalizedToOne, 'normalization', 'multiply it by 255'),
]
