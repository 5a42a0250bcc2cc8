"""Table of area ratios and figure of contribution maps of several models."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from evaluation.analysis.receptive_field.result import Maps, TargetResult, gaussian_fits, mark_of, shares
from evaluation.analysis.results import INK, SUITE, blank_figure, settle_layout, text_table
from evaluation.utils.formats import fixed, significant
from evaluation.utils.text_tables import DASH, Table

NOTE = (
    'Area of the smallest centered square that contains this share of the contribution, in percent of '
    'the image. Sigma: standard deviation, in pixels, of a Gaussian fitted to the sums over columns (y) '
    'and over rows (x). r2: share of the sums of squares that the Gaussian explains, the lower one.'
)


REPLKNET_NOTE = (
    'Measured as in RepLKNet: positive part of the gradient, log10(x + 1) of the mean over images, '
    'squares that contain more than this share, in percent of the image. Sigma and r2: of the mean '
    'without the logarithm.'
)
# Lower limit of the color map, relative to the largest contribution.
FAINTEST = 1e-4
_TICKS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
PANEL_INCHES = 2.1
# Panels in a row for models with one target.
MOST_COLUMNS = 7
_COLORS = 'magma'
# Line styles of the squares, by share.
_SQUARES = {0.5: '-', 0.99: ':'}
_CAPTION = (
    'Centered squares contain 50 % (solid) and 99 % (dotted) of the contribution. Below each map: area '
    'of the smallest square that contains each share, in percent of the image.'
)


def area_table(models: Sequence[Maps]) -> Table:
    """Return a table with a group of rows for each model and a row for each target."""
    headings = ['Model', 'Target', 'Images', *shares(), 'Sigma y', 'Sigma x', 'r2']
    size, protocol = models[0].size, models[0].protocol
    title = f'Effective receptive field at {size}x{size}{mark_of(protocol)}'
    groups = [[_row(model.name, target) for target in model.targets] for model in models]
    return text_table(title, headings, groups, [NOTE if protocol == SUITE else REPLKNET_NOTE])


def _row(model: str, target: TargetResult) -> list[str]:
    down, across = gaussian_fits(target.mean)
    texts = [model, target.name, str(target.images)]
    texts += [percent_of(ratio) for ratio in target.area_ratios.values()]
    texts += [fixed(down.sigma, 1), fixed(across.sigma, 1), fixed(min(down.r2, across.r2), 3)]
    return texts


def percent_of(ratio: float | None) -> str:
    """Format a ratio in percent, with at least two significant digits: `0.014`, `2.4`, `63`, `100`."""
    if ratio is None:
        return DASH
    value = 100 * ratio
    if value >= 10:
        return fixed(value, 0)
    return significant(value, 2) if value >= 0.001 else '<0.001'


def draw_maps(models: Sequence[Maps]) -> Figure:
    """Draw a column for each model and a row for each target that any of the models has.

    Models with one target are wrapped into several rows if there are many.

    Args:
        models: models with maps of the same size.
    """
    names = list(dict.fromkeys(target.name for model in models for target in model.targets))
    is_wrapped = len(names) == 1 and len(models) > MOST_COLUMNS
    columns = MOST_COLUMNS if is_wrapped else len(models)
    rows = math.ceil(len(models) / columns) * len(names)
    title_inches = 0.35 * is_wrapped
    height = (PANEL_INCHES + 0.45 + title_inches) * rows + 1.0
    figure = blank_figure(PANEL_INCHES * columns + 1.6, height)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        _prepare(axes)
        axes.patch.set_visible(False)
    colors = LogNorm(FAINTEST, 1.0, clip=True)
    for number, model in enumerate(models):
        targets = {target.name: target for target in model.targets}
        first, column = divmod(number, columns)
        for row, name in enumerate(names):
            if name in targets:
                picture = _draw(panels[first + row, column], targets[name], colors)
        panels[first, column].set_title(model.name.replace(' (', '\n('), fontsize=8, color=INK)
    for row in range(rows):
        panels[row, 0].set_ylabel(names[row % len(names)], fontsize=10, color=INK)
    bar = figure.colorbar(
        picture, ax=panels, shrink=min(1.0, 2 / rows), aspect=25, pad=0.02, ticks=_TICKS
    )
    bar.set_label('contribution / largest', color=INK, fontsize=9)
    bar.ax.tick_params(colors=INK, labelsize=8)
    figure.supxlabel(_caption(columns), fontsize=7.5, color=INK)
    return settle_layout(figure)


def _caption(models: int) -> str:
    """Wrap the caption to the width of the figure."""
    return textwrap.fill(_CAPTION, 30 * models + 22)


def _prepare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw(axes: Axes, target: TargetResult, colors: LogNorm):
    """Draw a map with its squares and area ratios; return the image, for the color bar."""
    axes.patch.set_visible(True)
    shares = np.maximum(target.mean / target.mean.max(), FAINTEST)
    picture = axes.imshow(shares, norm=colors, cmap=_COLORS, interpolation='nearest')
    height, width = target.mean.shape
    for share, dash in _SQUARES.items():
        if target.area_ratios[share] is None:
            continue
        side = np.sqrt(target.area_ratios[share] * height * width)
        corner = width // 2 - side / 2, height // 2 - side / 2
        square = Rectangle(corner, side, side, fill=False, color='white', linewidth=0.9, linestyle=dash)
        square.set_clip_on(True)
        axes.add_patch(square)
    figures = [f'{100 * share:g} %: {percent_of(ratio)}' for share, ratio in target.area_ratios.items()]
    half = (len(figures) + 1) // 2
    lines = '\n'.join('   '.join(part) for part in (figures[:half], figures[half:]))
    axes.set_xlabel(lines, fontsize=7.5, color=INK)
    return picture
