"""Report of loading a checkpoint: which parameters were loaded, which were not, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

UNUSED = {
    'stage_norms.': 'the dense backbone normalizes its outputs, not the trunk',
    'conv_head.': 'classifier head',
    'head.': 'classifier head',
    'fc.': 'classifier head',
}
ABSENT = {'out_norms.': 'output norms are new in a dense model'}


@dataclass
class LoadReport:
    """Which parameters of a checkpoint were loaded.

    Attributes:
        loaded: names of loaded parameters.
        loaded_parameters: number of loaded parameters (elements).
        parameters: number of parameters in the model, without those that are absent for a known reason.
        share: loaded parameters as a fraction of the model's or of the checkpoint's parameters,
            whichever fraction is smaller; parameters unused or absent for a known reason do not count.
        expected: names that are unused or absent for a known reason, by reason.
        missing: parameters of the model that the checkpoint lacks.
        unexpected: entries of the checkpoint that the model lacks.
        mismatched: entries of a different shape, as `name: checkpoint's shape, model's shape`.
    """

    loaded: list[str] = field(default_factory=list)
    loaded_parameters: int = 0
    parameters: int = 0
    share: float = 0.0
    expected: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f'{self.loaded_parameters:,} of {self.parameters:,} parameters loaded '
            f'({self.share:.1%}, {len(self.loaded)} tensors)'
        ]
        lines += [f'expected, {reason}: {some(names)}' for reason, names in self.expected.items()]
        for word in ('missing', 'unexpected', 'mismatched'):
            if names := getattr(self, word):
                lines.append(f'{word}: {some(names)}')
        return '\n  '.join(lines)

    @property
    def is_whole(self) -> bool:
        """Whether everything was loaded, except for what is expected to be unused or absent."""
        return not (self.missing or self.unexpected or self.mismatched)


def compare(
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    unused: Mapping[str, str] = UNUSED,
    absent: Mapping[str, str] = ABSENT,
) -> LoadReport:
    """Compare a checkpoint's weights with a model.

    Args:
        own: state dict of the model.
        weights: state dict of the checkpoint, in the model's names.
        unused: known reasons for entries that only the checkpoint has, by prefix of the name.
        absent: known reasons for entries that only the model has, by prefix of the name.
    """
    report = LoadReport()
    for name, value in weights.items():
        if name not in own:
            _file(report, name, unused, report.unexpected)
        elif own[name].is_floating_point() and not value.is_floating_point():
            report.mismatched.append(f'{name}: integers in the file, floats in the model')
        elif value.shape == own[name].shape:
            report.loaded.append(name)
        else:
            shapes = f'{list(value.shape)} in the file, {list(own[name].shape)} in the model'
            report.mismatched.append(f'{name}: {shapes}')
    for name in own:
        if name not in weights:
            _file(report, name, absent, report.missing)
    known = {name for names in report.expected.values() for name in names}
    report.loaded_parameters = sum(own[name].numel() for name in report.loaded)
    report.parameters, held = (
        sum(value.numel() for name, value in side.items() if name not in known)
        for side in (own, weights)
    )
    report.share = report.loaded_parameters / max(report.parameters, held, 1)
    return report


def some(names: list[str], shown: int = 4) -> str:
    """Join the first few names, and count the others."""
    more = f' and {len(names) - shown} more' if len(names) > shown else ''
    return ', '.join(names[:shown]) + more


def _file(report: LoadReport, name: str, reasons: Mapping[str, str], otherwise: list[str]) -> None:
    reason = next((text for start, text in reasons.items() if name.startswith(start)), None)
    # Checkpoints older than PyTorch 0.4.1 lack these counters, and no result depends on them.
    if reason is None and name.endswith('.num_batches_tracked'):
        reason = 'batch norm counters'
    (report.expected.setdefault(reason, []) if reason else otherwise).append(name)
