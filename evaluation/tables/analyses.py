"""Figures of analyses, for columns beside the accuracy of the very weights that were analysed."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluation.analysis.results import AnalysisFigures, read_figures, result_files
from evaluation.utils.errors import UserError

ADVICE = 'tools/analyze_erf.py, analyze_invariance.py and analyze_robustness.py write them'


def load_analyses(folders: Iterable[Path | str]) -> list[AnalysisFigures]:
    """Read every result of an analysis at any depth below `folders`, the oldest first.

    Raises:
        UserError: there is none, or one is damaged.
    """
    folders = list(folders)
    found = [read_figures(file) for file in result_files(folders)]
    if not found:
        raise UserError(f'no analysis under {", ".join(map(str, folders))}; {ADVICE}')
    return sorted(found, key=lambda analysis: analysis.created)


def newest_of(analyses: Sequence[AnalysisFigures], weights_sha256: str | None) -> list[AnalysisFigures]:
    """The newest analysis of each kind, of some weights.

    Args:
        analyses: the oldest first.
        weights_sha256: digest of the weights; None where it is not known.
    """
    own = [analysis for analysis in analyses if analysis.weights_sha256 == weights_sha256]
    return [*{analysis.kind: analysis for analysis in own}.values()]


def figures_of(
    analyses: Sequence[AnalysisFigures], weights_sha256: str | None
) -> dict[str, float | None]:
    """Figures of the newest analysis of each kind, of some weights; arguments as of `newest_of`."""
    return {
        heading: value
        for analysis in newest_of(analyses, weights_sha256)
        for heading, value in analysis.figures.items()
    }
