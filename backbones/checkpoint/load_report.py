"""What became of a checkpoint: which parameters were loaded, which were not, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

UNUSED = {
    'stage_norms.': 'the dense backbone norms its outputs, not the trunk',
    'conv_head.': 'head of the classifier',
    'head.': 'head of the classifier',
    'fc.': 'head of the classifier',
}
ABSENT = {'out_norms.': 'output norms start anew in a dense model'}


@dataclass
class LoadReport:
    """What became of a checkpoint.

    Attributes:
        loaded: names that were loaded.
        loaded_parameters: numbers in them.
        parameters: numbers in the model, without those that are absent for a known reason.
        share: parameters loaded, as a fraction of those that model and checkpoint should have in common:
            the smaller of the fractions of the model's and of the checkpoint's.
        expected: names that are unused or absent for a known reason, by that reason.
        missing: parameters of the model that the checkpoint does not hold.
        unexpected: entries of the checkpoint that the model does not have.
        mismatched: entries of another shape, as `name: checkpoint's shape, model's shape`.
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
        """Whether nothing but what was expected is missing or left over."""
        return not (self.missing or self.unexpected or self.mismatched)


def compare(
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    unused: Mapping[str, str] = UNUSED,
    absent: Mapping[str, str] = ABSENT,
) -> LoadReport:
    """What of `weights` fits a model.

    Args:
        own: the model's state dict.
        weights: the checkpoint's, in the model's names.
        unused: reasons why the checkpoint may have entries that the model has not, by how names begin.
        absent: reasons why the model may have entries that the checkpoint has not, likewise.
    """
    report = LoadReport()
    for name, value in weights.items():
        if name not in own:
            _file(report, name, unused, report.unexpected)
        elif own[name].is_floating_point() and not value.is_floating_point():
            report.mismatched.append(f'{name}: whole numbers in the file, others in the model')
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
    """The first few of many names."""
    more = f' and {len(names) - shown} more' if len(names) > shown else ''
    return ', '.join(names[:shown]) + more


def _file(report: LoadReport, name: str, reasons: Mapping[str, str], otherwise: list[str]) -> None:
    reason = next((text for start, text in reasons.items() if name.startswith(start)), None)
    # Checkpoints older than PyTorch 0.4.1 lack them, and no figure depends on them.
    if reason is None and name.endswith('.num_batches_tracked'):
        reason = 'counters of batch norms'
    (report.expected.setdefault(reason, []) if reason else otherwise).append(name)
