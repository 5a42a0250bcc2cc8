"""Selective scan of a map in four directions."""

from torch import Tensor

from backbones.ops import selective_scan_reference


def selective_scan(
    u: Tensor, projected: Tensor, step_weight: Tensor, step_bias: Tensor, a_logs: Tensor, skips: Tensor
) -> Tensor:
    """Scan a map in four directions and sum."""
    return selective_scan_reference.forward(u, projected, step_weight, step_bias, a_logs, skips)
