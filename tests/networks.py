"""Networks as users write them: plain modules that know nothing of the suite."""

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d


class Pyramid(nn.Module):
    """Maps at strides 4, 8, 16 and 32, of which the first has `width` channels."""

    def __init__(self, width: int = 8, shared: str | None = None) -> None:
        super().__init__()
        self.shared = shared
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.BatchNorm2d(width))
        self.downs = nn.ModuleList(nn.Conv2d(width * n, width * (n + 1), 2, 2) for n in (1, 2, 3))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        for down in self.downs:
            maps.append(down(maps[-1].relu()))
        return maps


class NeedsWidth(Pyramid):
    def __init__(self, width: int) -> None:
        super().__init__(width)


class OneMap(Pyramid):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[-1]


class NoMaps(Pyramid):
    def forward(self, x: Tensor) -> None:
        super().forward(x)


class NamedMaps(Pyramid):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {f'stage{i}': value for i, value in enumerate(super().forward(x))}


class ChannelsLast(Pyramid):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [value.permute(0, 2, 3, 1) for value in super().forward(x)]


class Tokens(Pyramid):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [value.flatten(2) for value in super().forward(x)]


class ThreeMaps(Pyramid):
    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(x)[1:]


class WrongStrides(Pyramid):
    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(avg_pool2d(x, 2))


class Distorted(Pyramid):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [avg_pool2d(value, (2, 1)) for value in super().forward(x)]


class Broken(Pyramid):
    def forward(self, x: Tensor) -> list[Tensor]:
        return self.neck(super().forward(x))


class LargeOnly(Pyramid):
    """Takes no images below 256 pixels."""

    def forward(self, x: Tensor) -> list[Tensor]:
        if min(x.shape[2:]) < 256:
            raise ValueError('the image is too small')
        return super().forward(x)


class ReadsValues(Pyramid):
    """Does not run on the meta device."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(x + float(x.mean()))


class BuildsWithValues(Pyramid):
    """Cannot be built on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = float(self.stem[0].weight.abs().max())


class Normalized(Pyramid):
    """Expects images from -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.normalization = {'mean': [127.5] * 3, 'std': [127.5] * 3}


class NormalizedToOne(Pyramid):
    """States the statistics of images from 0 to 1, as torchvision does."""

    def __init__(self) -> None:
        super().__init__()
        self.normalization = {'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225]}


class Unbuildable(Pyramid):
    def __init__(self) -> None:
        super().__init__()
        raise KeyError('foo')


class Leaving(Pyramid):
    def __init__(self) -> None:
        super().__init__()
        raise SystemExit(3)


class BadNormalization(Pyramid):
    def __init__(self) -> None:
        super().__init__()
        self.normalization = {'mean': 127.5, 'std': 127.5}


class Forgetful(Pyramid):
    """Ignores the weights that it is given."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        return None


class Reinitialized(Pyramid):
    """Has an `init_weights` of its own, as many networks outside of OpenMMLab do."""

    def init_weights(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class Logits(nn.Module):
    """A classifier."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def make_pyramid() -> Pyramid:
    return Pyramid()
