"""Tables of parameters and FLOPs for each part of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evaluation.models.complexity import CONVENTION, Complexity
from evaluation.utils.formats import fixed
from evaluation.utils.text_tables import DASH, SECTION, Cell, Column, Table, to_markdown

PARAMETERS_NOTE = 'Parameters: all of the model, including frozen ones and any auxiliary head.'


def render_complexity(found: Mapping[str, Complexity], trained: Mapping[str, int] = {}) -> str:
    """Return Markdown tables of parameters and FLOPs for each image size and kind of model.

    Args:
        found: complexity of each config, by config name.
        trained: number of parameters that train, of configs with a protocol.
    """
    alike: dict[tuple, dict[str, Complexity]] = {}
    for name, complexity in found.items():
        parts = tuple(part.name for part in complexity.parts)
        alike.setdefault((complexity.height, complexity.width, parts), {})[name] = complexity
    tables = [table for members in alike.values() for table in _tables(members)]
    notes = [PARAMETERS_NOTE, *trained_notes(found, trained), CONVENTION, *uncounted_notes(found)]
    return '\n'.join([*map(to_markdown, tables), '\n\n'.join(notes)]) + '\n'


def trained_notes(found: Mapping[str, Complexity], trained: Mapping[str, int]) -> list[str]:
    """Return a note for each config with a protocol, with the parameters that train, in millions."""
    counts = {name: (count, found[name].parameters) for name, count in trained.items()}
    return [
        f'{name}: {fixed(count / 1e6, 2)} of {fixed(total / 1e6, 2)} M parameters train.'
        for name, (count, total) in counts.items()
    ]


def uncounted_notes(found: Mapping[str, Complexity]) -> list[str]:
    """Return a note for each config whose FLOPs lack some operators."""
    return [
        f'{SECTION} {name}: excludes operators without a FLOP formula: '
        f'{", ".join(complexity.uncounted_operators)}.'
        for name, complexity in found.items()
        if complexity.uncounted_operators
    ]


def _tables(members: Mapping[str, Complexity]) -> list[Table]:
    first = next(iter(members.values()))
    names = ['total', *(part.name for part in first.parts)]
    size = f'{first.height}x{first.width} (height x width)'
    return [
        _table('Parameters (M)', names, [_parameters(*member) for member in members.items()]),
        _table(
            f'FLOPs (G) at {size}',
            [*names, 'norms', 'total with norms'],
            [_flops(*member) for member in members.items()],
        ),
    ]


def _table(title: str, names: Sequence[str], rows: Sequence[tuple[Cell, ...]]) -> Table:
    columns = [Column('Config', 'Config', numeric=False), *(Column(name, name) for name in names)]
    return Table(title, tuple(columns), (tuple(rows),), notes=())


def _parameters(config: str, complexity: Complexity) -> tuple[Cell, ...]:
    """Return the cells of a config: name, total, each part."""
    values = (complexity.parameters, *(part.parameters for part in complexity.parts))
    return Cell(config), *(Cell(fixed(value / 1e6, 2)) for value in values)


def _flops(config: str, complexity: Complexity) -> tuple[Cell, ...]:
    """Return the cells of a config: name, total, each part, norms, total including norms."""
    mark = SECTION if complexity.uncounted_operators else ''
    parts = [part.flops for part in complexity.parts]
    values = [complexity.flops, *parts, complexity.norm_flops, complexity.flops_with_norms]
    cells = [Cell(DASH if value is None else fixed(value / 1e9, 2)) for value in values]
    cells[0], cells[-1] = replace(cells[0], mark=mark), replace(cells[-1], mark=mark)
    return Cell(config), *cells
