"""Backbones of timm as subjects beside those of the suite."""

from collections.abc import Iterator

import timm
from torch import nn

from evaluation.benchmark.passes import Size
from evaluation.benchmark.subjects import Cost, count_cost
from evaluation.models.complexity import parameters_without_values
from evaluation.utils.errors import UserError, did_you_mean
from evaluation.utils.random_state import seeded

PREFIX = 'timm:'
# Image sides may have to be multiples of these: strides, and strides times windows.
MULTIPLES = (4, 8, 14, 16, 28, 32, 56, 64, 112, 128, 224, 256)
TRUNK = {'num_classes': 0}
FEATURES = {'features_only': True}


class PeerSubject:
    """A network of timm without its classifier: its feature maps where timm offers them, else its trunk.

    Args:
        name: `timm:` and a model of timm, such as `timm:swin_tiny_patch4_window7_224`.

    Raises:
        UserError: timm has no such model; the message names similar ones.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._architecture = architecture_of(name)
        self._found_by_shape: dict[tuple[int, int], tuple[Cost, dict]] = {}

    def cost(self, size: Size) -> Cost:
        """Count parameters and FLOPs.

        Raises:
            UserError: it does not take images of this size; the message names one that it takes.
        """
        return self._found(size)[0]

    @property
    def note(self) -> str | None:
        """Note that this is a trunk without feature maps, known once its cost is counted."""
        if all('features_only' in options for _, options in self._found_by_shape.values()):
            return None
        return 'timm offers no feature maps of it: its trunk alone, without the classifier'

    def build(self, size: Size) -> nn.Module:
        """Build a network with random weights on the CPU, for images of this size.

        Raises:
            UserError: it does not take images of this size; the message names one that it takes.
        """
        return self._create(self._found(size)[1])

    def part_to_compile(self, module: nn.Module) -> nn.Module:
        """Return the whole network."""
        return module

    def _found(self, size: Size) -> tuple[Cost, dict]:
        """Return cost and options for a size, cached."""
        shape = size.height, size.width
        if shape not in self._found_by_shape:
            self._found_by_shape[shape] = self._find(*shape)
        return self._found_by_shape[shape]

    def _find(self, height: int, width: int) -> tuple[Cost, dict]:
        """Find cost and options for a size.

        Raises:
            UserError: no options work.
        """
        found, reason = self._try(height, width)
        if found:
            return found
        raise UserError(
            f'{self.name} does not take {height}x{width} (height x width){reason}; '
            f'{self._what_it_takes(height, width)}'
        )

    def _what_it_takes(self, height: int, width: int) -> str:
        for multiple in MULTIPLES:
            rounded = [-(-side // multiple) * multiple for side in (height, width)]
            if rounded != [height, width] and self._try(*rounded)[0]:
                return f'it takes {rounded[0]}x{rounded[1]}, the next multiples of {multiple}'
        return f'nor does it take multiples of anything up to {MULTIPLES[-1]} near it; leave it out'

    def _try(self, height: int, width: int) -> tuple[tuple[Cost, dict] | None, str]:
        """Return cost and options for a size, or the reason why there are none, in the words of timm.

        The first options that build a network decide. Architectures refuse sizes with many kinds of
        exceptions, so any exception counts as a refusal.
        """
        reason = ''
        for options in _ways(height, width):
            try:
                with parameters_without_values():
                    module = self._create(options)
            except Exception as error:
                reason = reason or _reason(error)
                continue
            try:
                return (count_cost(module, height, width), options), ''
            except Exception as error:
                return None, _reason(error) or reason
        return None, reason

    def _create(self, options: dict) -> nn.Module:
        with seeded(0):
            return timm.create_model(self._architecture, pretrained=False, **options)


def architecture_of(name: str) -> str:
    """Return the name of a peer in timm.

    Raises:
        UserError: the name does not have the form `timm:NAME`, or timm does not know it.
    """
    prefix, _, architecture = name.partition(':')
    if f'{prefix}:' != PREFIX or not architecture:
        raise UserError(f'peer {name!r} has not the form {PREFIX}NAME, such as timm:convnext_tiny')
    # Names with a tag of pretrained weights are valid too; the weights are not loaded.
    names = timm.list_pretrained() if '.' in architecture else timm.list_models()
    if architecture not in names:
        near = did_you_mean(architecture, names)
        raise UserError(f'peer {name}: timm has no such model{near}')
    return architecture


def _ways(height: int, width: int) -> Iterator[dict]:
    """Yield build options, the best first; networks of fixed geometry need the size."""
    for what in (FEATURES, TRUNK):
        yield {**what, 'img_size': (height, width)}
        yield what


def _reason(error: Exception) -> str:
    """Return a colon and the first line of an error; nothing if an option is unknown."""
    words = str(error).strip()
    if not words or 'unexpected keyword' in words:
        return ''
    return f': {words.splitlines()[0].rstrip(".")}'
