"""Figures of analyses, shown beside the accuracy of the same weights."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluation.analysis.results import AnalysisFigures, read_figures, result_files
from evaluation.utils.errors import UserError

ADVICE = 'tools/analyze_erf.py, analyze_invariance.py and analyze_robustness.py write them'


def load_analyses(folders: Iterable[Path | str]) -> list[AnalysisFigures]:
    """Read all analysis results below `folders`, at any depth, sorted from oldest to newest.

    Raises:
        UserError: no analysis is found, or one cannot be read.
    """
    folders = list(folders)
    found = [read_figures(file) for file in result_files(folders)]
    if not found:
        raise UserError(f'no analysis under {", ".join(map(str, folders))}; {ADVICE}')
    return sorted(found, key=lambda analysis: analysis.created)


def newest_of(analyses: Sequence[AnalysisFigures], weights_sha256: str | None) -> list[AnalysisFigures]:
    """Return the newest analysis of each kind for the given weights.

    Args:
        analyses: analyses, sorted from oldest to newest.
        weights_sha256: digest of the weights; None if unknown.
    """
    own = [analysis for analysis in analyses if analysis.weights_sha256 == weights_sha256]
    return [*{analysis.kind: analysis for analysis in own}.values()]


def figures_of(
    analyses: Sequence[AnalysisFigures], weights_sha256: str | None
) -> dict[str, float | None]:
    """Return the figures of the newest analysis of each kind; see `newest_of` for the arguments."""
    return {
        heading: value
        for analysis in newest_of(analyses, weights_sha256)
        for heading, value in analysis.figures.items()
    }
