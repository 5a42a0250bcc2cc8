"""Table and figure of the invariance of several models."""

import math
from collections.abc import Collection, Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from evaluation.analysis.invariance.conditions import ROTATION, SCALE, TRANSFORMS, TRANSLATION, UNITS
from evaluation.analysis.invariance.result import InvarianceResult
from evaluation.analysis.results import GRID, INK, blank_figure, percent, settle_layout, text_table
from evaluation.utils.formats import COLORS, DASHES, MARKERS
from evaluation.utils.text_tables import Table

NOTE = (
    'In percent. Unchanged: on the original images. Mean and minimum: over the strengths of the '
    'transform. Consistency: agreement with the predictions for the original images.'
)
PANEL_INCHES = 2.9, 2.1
# Additional size for legend and titles.
_MORE_INCHES = 0.9, 0.7
_TICKS = {TRANSLATION: 16, ROTATION: 15, SCALE: 0.5}


def curve_table(results: Sequence[InvarianceResult]) -> Table:
    """Return a table with a group of rows for each model and a row for each transform."""
    # Detectors without masks have fewer metrics.
    shown = list(dict.fromkeys(name for result in results for name in result.shown))
    unchanged = {name for result in results for name in result.unchanged}
    headings = ['Model', 'Transform', 'Strengths']
    for name in shown:
        headings += [f'{name} unchanged'] if name in unchanged else []
        headings += [f'{name} mean', f'{name} minimum']
    title = f'Invariance, {results[0].subject["task"]}{results[0].mark}'
    return text_table(title, headings, (_rows(result, shown, unchanged) for result in results), [NOTE])


def _rows(
    result: InvarianceResult, shown: Sequence[str], unchanged: Collection[str]
) -> Iterator[list[str]]:
    for transform, curve in result.curves.items():
        texts = [result.name, transform, f'{curve.strengths[0]:g} to {curve.strengths[-1]:g}']
        for name in shown:
            values = [v for v in curve.metrics.get(name, ()) if not math.isnan(v)]
            texts += [percent(result.unchanged.get(name, math.nan))] if name in unchanged else []
            mean = math.fsum(values) / len(values) if values else math.nan
            texts += [percent(mean), percent(min(values, default=math.nan))]
        yield texts


def draw_curves(results: Sequence[InvarianceResult]) -> Figure:
    """Draw the shown metrics over the strengths of each transform.

    Args:
        results: results of the same task.
    """
    shown = list(dict.fromkeys(name for result in results for name in result.shown))
    transforms = [name for name in TRANSFORMS if any(name in result.curves for result in results)]
    width = PANEL_INCHES[0] * len(transforms) + _MORE_INCHES[0]
    height = PANEL_INCHES[1] * len(shown) + _MORE_INCHES[1] + 0.2 * len(results)
    figure = blank_figure(max(width, 4.5), height)
    panels = figure.subplots(len(shown), len(transforms), squeeze=False, sharex='col', sharey='row')
    for row, name in enumerate(shown):
        for column, transform in enumerate(transforms):
            lines = _draw(panels[row, column], results, name, transform)
        panels[row, 0].set_ylabel(f'{name}{results[0].mark} (%)', fontsize=9, color=INK)
        # Panels of a row share the axis.
        panels[row, 0].set_ylim(0, _ceiling(results, name))
    for column, transform in enumerate(transforms):
        panels[0, column].xaxis.set_major_locator(MultipleLocator(_TICKS[transform]))
        panels[0, column].set_title(transform, fontsize=10, color=INK)
        panels[-1, column].set_xlabel(UNITS[transform], fontsize=9, color=INK)
    figure.legend(
        lines,
        [result.name for result in results],
        loc='outside lower center',
        ncols=1 if max(len(result.name) for result in results) > 30 else 2,
        fontsize=8,
        frameon=False,
        labelcolor=INK,
    )
    return settle_layout(figure)


def _ceiling(results: Sequence[InvarianceResult], name: str) -> float:
    """Return a limit slightly above all values of a metric."""
    values = [
        value
        for result in results
        for curve in result.curves.values()
        for value in curve.metrics.get(name, ())
        if not math.isnan(value)
    ]
    return 1.05 * max(values, default=0.0) or 1.0


def _draw(axes: Axes, results: Sequence[InvarianceResult], name: str, transform: str) -> list:
    """Draw a panel and return a line for each model, for the legend."""
    lines = []
    for index, result in enumerate(results):
        style = index % len(COLORS)
        curve = result.curves.get(transform)
        values = curve.metrics.get(name, []) if curve else []
        lines += axes.plot(
            curve.strengths if values else [],
            values,
            DASHES[index // len(COLORS) % len(DASHES)],
            color=COLORS[style],
            marker=MARKERS[style],
            markersize=3.5,
            linewidth=1.4,
        )
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    return lines
