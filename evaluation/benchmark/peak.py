"""The rate of large matrix products, measured beside the subjects: what a processor reaches at best."""

import torch

from evaluation.benchmark.passes import DTYPES, Mode, seconds_of
from evaluation.utils.errors import UserError

SIDES = {'cpu': 4096, 'cuda': 8192}
# Processors without instructions for a dtype take minutes for a product of the usual side.
LONGEST_SECONDS = 20.0
_TRIAL_SIDE = 512


class MatrixProduct:
    """The product of two square matrices, in the dtype of a mode and without autocast.

    Args:
        side: of the matrices; None for 4096 on the CPU, or less where that would take longer than 20 s,
            and 8192 on a GPU.
        mode: device and dtype.

    Raises:
        UserError: the matrices do not fit into memory.
    """

    name = 'matrix product'

    def __init__(self, side: int | None, mode: Mode) -> None:
        self.side = side or affordable_side(mode)
        self._device = mode.device
        try:
            self._factors = [_random_square(self.side, mode) for _ in range(2)]
            self._product = torch.empty_like(self._factors[0])
        except (RuntimeError, MemoryError) as error:
            raise UserError(
                f'matrices of {self.side}x{self.side} for the peak do not fit into memory; '
                'give fewer with --matrix-side'
            ) from error

    @property
    def flops(self) -> int:
        """Multiply-adds."""
        return self.side**3

    def time(self) -> float:
        """Seconds of one product."""
        return seconds_of(lambda: torch.mm(*self._factors, out=self._product), self._device)


def affordable_side(mode: Mode) -> int:
    """The usual side for a device, halved until a product should take no longer than 20 s."""
    side = SIDES[mode.device.type]
    trial = MatrixProduct(_TRIAL_SIDE, mode)
    trial.time()
    seconds_per_flop = trial.time() / trial.flops
    while side > _TRIAL_SIDE and seconds_per_flop * side**3 > LONGEST_SECONDS:
        side //= 2
    return side


def _random_square(side: int, mode: Mode) -> torch.Tensor:
    generator = torch.Generator(mode.device).manual_seed(0)
    return torch.randn(side, side, generator=generator, device=mode.device).to(DTYPES[mode.dtype])
