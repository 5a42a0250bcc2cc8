"""Benchmark report: medians over rounds as Markdown tables, and all raw times as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import floor, log10

import numpy as np
import torch

from evaluation.benchmark.measuring import BenchmarkPlan, Measurement, Measurements
from evaluation.benchmark.passes import MEMORY_NOTE, Mode
from evaluation.results.description import git_state, now, versions
from evaluation.utils.devices import describe_device
from evaluation.utils.formats import fixed
from evaluation.utils.text_tables import DASH, SECTION, Cell, Column, Table, to_markdown

# Hardware rates count multiplication and addition separately.
OPERATIONS_PER_FLOP = 2
OUT_OF_MEMORY = 'out of memory'
FLOPS_NOTE = (
    'FLOPs: multiply-adds of the forward pass over one image, as counted by tools/complexity.py; rates '
    'and the fraction of the peak count each as two operations'
)
_Build = Callable[[Measurement], Cell]


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles over rounds."""

    median: float
    lower: float
    upper: float


def spread_of(values: Sequence[float]) -> Quartiles:
    """Return median and quartiles, interpolated linearly."""
    lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Quartiles(median, lower, upper)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the quotients within each round."""
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


def operations(row: Measurement, found: Measurements, mode: Mode) -> int:
    """Return the operations of one pass over the whole batch: two per multiply-add."""
    return OPERATIONS_PER_FLOP * row.cost.flops * found.size.batch * mode.flops_per_forward


def peak_rates(found: Measurements) -> list[float]:
    """Return the operations per second of the matrix product in each round."""
    return [OPERATIONS_PER_FLOP * found.matrix_side**3 / seconds for seconds in found.matrix_seconds]


def rates(row: Measurement, found: Measurements, mode: Mode) -> list[float]:
    """Return the operations per second of a row in each round."""
    return [operations(row, found, mode) / seconds for seconds in row.seconds]


def peak_fraction(row: Measurement, found: Measurements, mode: Mode) -> float:
    """Return the fraction of the peak that a row reaches: the median of the ratios within rounds."""
    return spread_of(ratios(rates(row, found, mode), peak_rates(found))).median


def relative_speed(row: Measurement, reference: Measurement) -> float:
    """Return the speedup over another row: the median of the ratios within rounds."""
    return spread_of(ratios(reference.seconds, row.seconds)).median


def render(plan: BenchmarkPlan, scope: str, results: Sequence[Measurements]) -> str:
    """Render the conditions, a table for each size and, for several sizes, a table of growth.

    Args:
        plan: plan of the benchmark.
        scope: timed part of the networks, in words.
        results: figures for each size of the plan, in order.
    """
    facts = '\n'.join(f'- {fact}' for fact in header(plan, scope))
    tables = [table_of_size(plan, found) for found in results]
    if len(results) > 1:
        tables.append(table_of_growth(results))
    return '\n'.join([f'{facts}\n', *map(to_markdown, tables)])


def as_json(plan: BenchmarkPlan, scope: str, results: Sequence[Measurements]) -> dict:
    """Return all raw figures and their conditions."""
    mode = plan.mode
    return {
        'machine': describe_device(mode.device),
        'dtype': mode.dtype,
        'backward': mode.backward,
        'compiled': mode.compiled,
        'scope': scope,
        'rounds': plan.rounds,
        'seed': plan.seed,
        'experiments': {s.name: s.experiment for s in plan.subjects if s.experiment},
        'notes': {subject.name: subject.note for subject in plan.subjects if subject.note},
        'versions': versions(),
        'git': git_state(),
        'time': now(),
        'results': [asdict(found) for found in results],
    }


def header(plan: BenchmarkPlan, scope: str) -> list[str]:
    """Return the conditions of all figures, one per line."""
    return [
        machine_line(plan.mode),
        f'Timed: {scope}; random weights, random images',
        pass_line(plan.mode),
        f'{plan.rounds} rounds; in each, every row and the matrix product run once, in a new random '
        'order. All figures are medians or quartiles over rounds',
        FLOPS_NOTE,
        MEMORY_NOTE,
    ]


def machine_line(mode: Mode) -> str:
    """Describe the device, PyTorch and the precision of products."""
    facts = describe_device(mode.device)
    where = f'{facts["name"]} ({facts["device"]})'
    if 'threads' in facts:
        where += f', {facts["threads"]} thread{"s" * (facts["threads"] > 1)}'
    else:
        where += f', CUDA {facts["cuda"]}'
    return f'{where}; PyTorch {torch.__version__}; {precision(mode, facts.get("tf32"))}'


def precision(mode: Mode, tf32: dict[str, bool] | None) -> str:
    """Describe the dtype and the use of TF32."""
    if mode.dtype != 'fp32':
        return f'{mode.dtype} by autocast, weights fp32'
    if tf32 is None:
        return 'fp32'
    on = [name.replace('_', ' ') for name, allowed in tf32.items() if allowed]
    return f'fp32, with TF32 for {" and ".join(on)}' if on else 'fp32, without TF32'


def pass_line(mode: Mode) -> str:
    """Describe one pass."""
    compiled = '; backbones compiled by torch.compile' if mode.compiled else ''
    if not mode.backward:
        return f'A pass: forward in eval mode, without gradients{compiled}'
    return (
        'A pass: forward and backward in train mode; the loss is the sum of the means of all outputs, '
        f'and rates count the backward as twice the forward{compiled}'
    )


def what_runs(mode: Mode) -> str:
    """Name one pass, for the heading of a table or picture."""
    return 'Forward and backward' if mode.backward else 'Forward'


def table_of_size(plan: BenchmarkPlan, found: Measurements) -> Table:
    """Return the table of all figures at one size."""
    columns = _columns(plan, found)
    rows = tuple(tuple(build(row) for _, build in columns) for row in found.rows)
    title = f'{what_runs(plan.mode)} on {found.size}, {plan.mode.dtype}'
    return Table(title, tuple(column for column, _ in columns), (rows,), tuple(_notes(plan, found)))


def picture_title(plan: BenchmarkPlan, scope: str) -> str:
    """Return the title of the picture of growth, in two lines."""
    what = f'{what_runs(plan.mode)}, {scope.partition(":")[0]}'
    return f'{what}{", compiled" * plan.mode.compiled}\n{machine_line(plan.mode)}'


def table_of_growth(results: Sequence[Measurements]) -> Table:
    """Return a table of median times, a row for each subject and a column for each size."""
    of_batch = len({found.size.batch for found in results}) > 1
    names = [
        str(found.size.batch) if of_batch else f'{found.size.height}x{found.size.width}'
        for found in results
    ]
    columns = (_text_column('Subject'), *(Column(name, name) for name in names))
    rows = tuple(
        (Cell(figures[0].name), *(_milliseconds(row) for row in figures))
        for figures in zip(*(found.rows for found in results), strict=True)
    )
    return Table(f'Time (ms) by {"batch" if of_batch else "size"}', columns, (rows,), notes=())


def _columns(plan: BenchmarkPlan, found: Measurements) -> list[tuple[Column, _Build]]:
    mode, reference = plan.mode, found.rows[0]
    unit, scale = rate_unit(found)

    def figure(value: Callable[[Measurement], str]) -> _Build:
        return lambda row: Cell(DASH if row.ran_out_of_memory else value(row))

    def speed(row: Measurement) -> str:
        return DASH if reference.ran_out_of_memory else fixed(relative_speed(row, reference), 2)

    columns = [
        ('Params (M)', lambda row: Cell(fixed(row.cost.parameters / 1e6, 2))),
        ('FLOPs (G)', _flops_cell),
        ('Time (ms)', _milliseconds),
        ('Quartiles (ms)', figure(lambda row: quartiles(row.seconds, 1e3))),
        (
            'Images/s',
            figure(lambda row: significant(found.size.batch / spread_of(row.seconds).median)),
        ),
        (unit, figure(lambda row: significant(spread_of(rates(row, found, mode)).median / scale))),
        ('Of peak', figure(lambda row: f'{fixed(100 * peak_fraction(row, found, mode), 1)}%')),
        ('Memory (MB)', figure(lambda row: significant(row.memory_bytes / 1e6))),
        ('Speed', figure(speed)),
    ]
    if mode.compiled:
        columns.append(('First pass (s)', figure(lambda row: significant(row.first_pass_seconds))))
    return [
        (_text_column('Subject'), lambda row: Cell(row.name)),
        *((Column(heading, heading), build) for heading, build in columns),
    ]


def _notes(plan: BenchmarkPlan, found: Measurements) -> list[str]:
    notes = []
    if found.matrix_seconds:
        unit, scale = rate_unit(found)
        peak = peak_rates(found)
        notes.append(
            f'Peak: the product of two {found.matrix_side}x{found.matrix_side} matrices in '
            f'{plan.mode.dtype}, {significant(spread_of(peak).median / scale)} {unit} (quartiles '
            f'{quartiles(peak, 1 / scale)}). Speed: relative to {found.rows[0].name}.'
        )
    for subject, row in zip(plan.subjects, found.rows, strict=True):
        if row.cost.uncounted_operators:
            missing = ', '.join(row.cost.uncounted_operators)
            notes.append(f'{SECTION} {row.name}: excludes operators without a FLOP formula: {missing}.')
        if subject.note:
            notes.append(f'{row.name}: {subject.note}.')
    return list(dict.fromkeys(notes))


def rate_unit(found: Measurements) -> tuple[str, float]:
    """Return the unit of rates and its operations per second: tera if the peak reaches it."""
    peak = peak_rates(found)
    return ('TFLOP/s', 1e12) if peak and spread_of(peak).median >= 1e12 else ('GFLOP/s', 1e9)


def quartiles(values: Sequence[float], factor: float) -> str:
    """Format lower and upper quartile, times a factor."""
    spread = spread_of(values)
    return f'{significant(spread.lower * factor)}{DASH}{significant(spread.upper * factor)}'


def significant(value: float) -> str:
    """Format with three significant digits, and all digits before the point."""
    if value <= 0:
        return '0'
    return fixed(value, max(0, 2 - floor(log10(value))))


def _milliseconds(row: Measurement) -> Cell:
    if row.ran_out_of_memory:
        return Cell(OUT_OF_MEMORY)
    return Cell(significant(spread_of(row.seconds).median * 1e3))


def _flops_cell(row: Measurement) -> Cell:
    return Cell(fixed(row.cost.flops / 1e9, 2), mark=SECTION if row.cost.uncounted_operators else '')


def _text_column(heading: str) -> Column:
    return Column(heading, heading, numeric=False)
