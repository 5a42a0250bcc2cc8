"""Area ratios of several models as a table."""

from collections.abc import Sequence

from evaluation.analysis.protocols import SUITE
from evaluation.analysis.receptive_field.result import Maps, TargetResult, mark_of, shares
from evaluation.analysis.receptive_field.statistics import gaussian_fits
from evaluation.utils.rounding import fixed, significant
from evaluation.utils.text_tables import DASH, Cell, Column, Table

NOTE = (
    'Area of the smallest centred square that holds this share of the contribution, in percent of the '
    'image. Sigma: standard deviation of a Gaussian fitted to the sums over columns and over rows, in '
    'pixels; r2 says how much of them it explains, the less of the two.'
)


REPLKNET_NOTE = (
    'As RepLKNet measures: positive part of the gradient, log10(x + 1) of the mean over images, squares '
    'that hold more than this share, in percent of the image. Sigma and r2 are of the mean itself.'
)


def area_table(models: Sequence[Maps]) -> Table:
    """A group of rows for each model, a row for each target."""
    headings = ['Model', 'Target', 'Images', *shares(), 'Sigma y', 'Sigma x', 'r2']
    return Table(
        title=f'Effective receptive field at {models[0].size}x{models[0].size}'
        f'{mark_of(models[0].protocol)}',
        columns=tuple(
            Column(heading, heading.replace('%', r'\%'), numeric=heading not in ('Model', 'Target'))
            for heading in headings
        ),
        groups=tuple(tuple(_row(model.name, target) for target in model.targets) for model in models),
        notes=(NOTE if models[0].protocol == SUITE else REPLKNET_NOTE,),
    )


def _row(model: str, target: TargetResult) -> tuple[Cell, ...]:
    down, across = gaussian_fits(target.mean)
    texts = [model, target.name, str(target.images)]
    texts += [percent(ratio) for ratio in target.area_ratios.values()]
    texts += [fixed(down.sigma, 1), fixed(across.sigma, 1), fixed(min(down.r2, across.r2), 3)]
    return tuple(map(Cell, texts))


def percent(ratio: float | None) -> str:
    """A ratio in percent, with two digits that count at least: `0.014`, `2.4`, `63`, `100`."""
    if ratio is None:
        return DASH
    value = 100 * ratio
    if value >= 10:
        return fixed(value, 0)
    return significant(value, 2) if value >= 0.001 else '<0.001'
