"""Growth plot: time per megapixel or image over image size or batch size, with a line for each row."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from evaluation.benchmark.measuring import Measurements
from evaluation.benchmark.speed_report import OUT_OF_MEMORY, Quartiles, spread_of
from evaluation.utils.formats import COLORS, DASHES, MARKERS

_INK = '#333333'
_GRID = '#dddddd'
_LABEL_POINTS = 9
# Line spacing of text, as a multiple of its height.
_LEADING = 1.35


@dataclass(frozen=True)
class GrowthCurve:
    """A row's times by size.

    Attributes:
        name: name of the row.
        sizes: sides in pixels or numbers of images, increasing.
        milliseconds: time per megapixel or per image at each size.
        is_whole: whether memory was sufficient at every size.
    """

    name: str
    sizes: tuple[int, ...]
    milliseconds: tuple[Quartiles, ...]
    is_whole: bool


def growth_curves(results: Sequence[Measurements]) -> tuple[list[GrowthCurve], bool]:
    """Return the curves of all rows that ran at least once, and whether the batch grows.

    Times are per megapixel if images grow, and per image if the batch grows, so that a cost
    proportional to the size is a level line.
    """
    of_batch = len({found.size.batch for found in results}) > 1
    curves = []
    for rows in zip(*(found.rows for found in results), strict=True):
        points = [
            (found.size.batch, _scaled(row.seconds, 1e3 / found.size.batch))
            if of_batch
            else (found.size.height, _scaled(row.seconds, 1e9 / found.size.pixels))
            for found, row in zip(results, rows, strict=True)
            if not row.ran_out_of_memory
        ]
        if points:
            sizes, spreads = zip(*points, strict=True)
            curves.append(GrowthCurve(rows[0].name, sizes, spreads, len(points) == len(results)))
    return curves, of_batch


def draw_growth(results: Sequence[Measurements], title: str) -> bytes:
    """Draw all curves on logarithmic axes as PNG, labeled at their ends; bands are quartiles.

    Args:
        results: measurements, one for each size, smallest first.
        title: description of the timed pass and the machine.
    """
    curves, of_batch = growth_curves(results)
    figure = Figure(figsize=(8, 4.8), dpi=200, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    styles = list(zip(range(len(curves)), _styles(), strict=False))
    for (index, (color, dash, marker)), curve in zip(styles, curves, strict=True):
        _draw_curve(axes, curve, color, dash, marker, zorder=3 + index)
    _set_axes(axes, curves, of_batch)
    axes.set_title(title, loc='left', fontsize=10, color=_INK)
    _label_ends(figure, axes, curves, [color for _, (color, _, _) in styles])
    content = io.BytesIO()
    canvas.print_png(content)
    return content.getvalue()


def spread_apart(places: Sequence[float], gap: float) -> list[float]:
    """Return positions at least `gap` apart, in the same order and near the given ones.

    Groups of adjacent positions are centered on the mean of the given ones.
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    runs: list[list[float]] = []
    for index in order:
        runs.append([places[index]])
        while len(runs) > 1 and _bottom(runs[-1], gap) - _top(runs[-2], gap) < gap:
            runs[-2:] = [runs[-2] + runs[-1]]
    spread = [_bottom(run, gap) + gap * step for run in runs for step in range(len(run))]
    result = [0.0] * len(places)
    for index, place in zip(order, spread, strict=True):
        result[index] = place
    return result


def _bottom(run: Sequence[float], gap: float) -> float:
    return sum(run) / len(run) - gap * (len(run) - 1) / 2


def _top(run: Sequence[float], gap: float) -> float:
    return sum(run) / len(run) + gap * (len(run) - 1) / 2


def _scaled(seconds: Sequence[float], factor: float) -> Quartiles:
    return spread_of([each * factor for each in seconds])


def _styles():
    """Yield color, dash and marker of one curve after another; colors repeat with a different dash."""
    for dash in cycle(DASHES):
        for color, marker in zip(COLORS, MARKERS, strict=True):
            yield color, dash, marker


def _draw_curve(axes: Axes, curve: GrowthCurve, color: str, dash: str, marker: str, zorder: int) -> None:
    lower = [spread.lower for spread in curve.milliseconds]
    upper = [spread.upper for spread in curve.milliseconds]
    axes.fill_between(curve.sizes, lower, upper, color=color, alpha=0.18, linewidth=0, zorder=2)
    medians = [spread.median for spread in curve.milliseconds]
    axes.plot(
        curve.sizes,
        medians,
        dash,
        color=color,
        marker=marker,
        markersize=5,
        linewidth=1.8,
        zorder=zorder,
    )


def _set_axes(axes: Axes, curves: Sequence[GrowthCurve], of_batch: bool) -> None:
    axes.set_xscale('log')
    axes.set_yscale('log')
    sizes = sorted({size for curve in curves for size in curve.sizes})
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.set_xlabel(
        'images in the batch' if of_batch else 'side of the square image (pixels)', color=_INK
    )
    axes.set_ylabel(f'time per {"image" if of_batch else "megapixel"} (ms)', color=_INK)
    axes.tick_params(colors=_INK)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)


def _label_ends(
    figure: Figure, axes: Axes, curves: Sequence[GrowthCurve], colors: Sequence[str]
) -> None:
    """Write each name to the right of the axes, without overlap, with a line from the curve's end."""
    figure.canvas.draw()
    ends = [(curve.sizes[-1], curve.milliseconds[-1].median) for curve in curves]
    in_axes = axes.transAxes.inverted().transform(axes.transData.transform(ends))
    height = axes.get_window_extent().height
    gap = _LABEL_POINTS * _LEADING * figure.dpi / 72 / height
    for curve, color, end, place in zip(
        curves, colors, ends, spread_apart(in_axes[:, 1].tolist(), gap), strict=True
    ):
        name = curve.name if curve.is_whole else f'{curve.name} (then {OUT_OF_MEMORY})'
        axes.annotate(
            name,
            xy=end,
            xytext=(1.06, place),
            textcoords='axes fraction',
            va='center',
            fontsize=_LABEL_POINTS,
            color=_INK,
            arrowprops={
                'arrowstyle': '-',
                'color': color,
                'linewidth': 0.9,
                'relpos': (0, 0.5),  # from the middle of the text's left edge
                'shrinkA': 1,
                'shrinkB': 4,
            },
            annotation_clip=False,
        )
