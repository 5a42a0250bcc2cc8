"""Bump chart of a ranking: a line for each contestant through its places in all columns."""

import io
from itertools import cycle, product
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluation.statistics.ranking import RankedColumn, Ranking
from evaluation.tables.ranking_tables import letter
from evaluation.utils.formats import COLORS, DASHES, MARKERS, MORE_COLORS

PALETTE = (*COLORS[:-1], *MORE_COLORS)
_INK = '#333333'
# Width of all rank intervals of a column, as a share of the distance between columns.
_SPREAD = 0.24
_TITLE_LETTERS = 24


def places(column: RankedColumn) -> np.ndarray:
    """Return distinct places, 1 for the best, (contestants,); contestants with equal scores keep order.

    Contestants without a published score have the place NaN.
    """
    order = np.argsort(np.where(column.ranks > 0, column.ranks, len(column.ranks) + 1), kind='stable')
    found = np.empty(len(order))
    found[order] = np.arange(1, len(order) + 1)
    return np.where(column.ranks > 0, found, np.nan)


def turning(ranking: Ranking) -> set[tuple[int, int]]:
    """Return pairs of contestant and column from which to the next one its order reverses."""
    return {
        (contestant, pair.first)
        for pair in ranking.pairs
        if pair.second == pair.first + 1
        for reversal in pair.reversals
        for contestant in (reversal.better, reversal.worse)
    }


def draw_bump_chart(ranking: Ranking) -> bytes:
    """Draw a bump chart as PNG: places as marks, rank intervals as bars, strong lines for reversals."""
    count, columns = len(ranking.contestants), len(ranking.columns)
    figure = Figure(
        figsize=(max(6.0, 3.4 + 2.1 * columns), max(3.2, 1.7 + 0.46 * count)),
        dpi=200,
        layout='constrained',
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = np.stack([places(each) for each in ranking.columns], axis=1)
    # By name, so that mixers of one scale have their colors; these repeat with a different dash.
    by_name = sorted(range(count), key=lambda index: ranking.contestants[index])
    styles = product(DASHES, zip(PALETTE, cycle(MARKERS), strict=False))
    for index, (dash, (color, marker)) in zip(by_name, cycle(styles), strict=False):
        _draw_contestant(axes, ranking, height, index, color, dash, marker)
    _set_axes(axes, ranking)
    content = io.BytesIO()
    canvas.print_png(content)
    return content.getvalue()


def _draw_contestant(
    axes: Axes, ranking: Ranking, height: np.ndarray, index: int, color: str, dash: str, marker: str
) -> None:
    own = height[index]
    strong = turning(ranking)
    for column in range(len(own) - 1):
        is_strong = (index, column) in strong
        width, alpha = (2.8, 1.0) if is_strong else (1.3, 0.6)
        ends = slice(column, column + 2)
        axes.plot(range(column, column + 2), own[ends], dash, color=color, linewidth=width, alpha=alpha)
    shift = _SPREAD * ((index + 0.5) / len(height) - 0.5)
    for column, each in enumerate(ranking.columns):
        if not each.is_published:
            ends = each.low[index], each.high[index]
            axes.vlines(column + shift, *ends, color=color, linewidth=2.4, alpha=0.35)
    axes.plot(range(len(own)), own, linestyle='', marker=marker, color=color, markersize=7, zorder=4)
    known = np.flatnonzero(np.isfinite(own))
    for column, side, align in ((known[0], -1, 'right'), (known[-1], 1, 'left')):
        axes.annotate(
            ranking.contestants[index],
            (column, own[column]),
            xytext=(side * 24, 0),
            textcoords='offset points',
            ha=align,
            va='center',
            fontsize=9,
            color=_INK,
        )


def _set_axes(axes: Axes, ranking: Ranking) -> None:
    count, columns = len(ranking.contestants), len(ranking.columns)
    titles = [
        '\n'.join([letter(index), *(fill(part, _TITLE_LETTERS) for part in each.title.split(', '))])
        for index, each in enumerate(ranking.columns)
    ]
    axes.set_xticks(range(columns), titles, fontsize=8.5, color=_INK)
    axes.set_yticks(range(1, count + 1))
    axes.set_ylim(count + 0.6, 0.4)
    axes.set_xlim(-0.8, columns - 0.2)
    axes.set_ylabel('rank', color=_INK)
    axes.tick_params(colors=_INK, length=0)
    axes.grid(axis='y', color='#eeeeee', linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(
        'Bars: 95 % intervals of ranks. Strong lines: reversals beyond chance to the next column. '
        'Equal scores are drawn one below the other.',
        loc='left',
        fontsize=8.5,
        color=_INK,
    )
