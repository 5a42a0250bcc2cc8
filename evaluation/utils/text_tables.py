"""Write tables as Markdown or LaTeX."""

import re
from dataclasses import dataclass

DASH = '–'
MINUS = '−'
DAGGER = '†'
DOUBLE_DAGGER = '‡'
SECTION = '§'
PILCROW = '¶'
DELTA = 'Δ'
ALMOST = '≈'
PLUS_MINUS = '±'
RING = '◦'


@dataclass(frozen=True)
class Column:
    """A column: heading as text for Markdown and as code for LaTeX; numbers are right-aligned."""

    heading: str
    latex: str
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell: unescaped text; `mark` refers to a note below the table and is never bold."""

    text: str
    bold: bool = False
    mark: str = ''


@dataclass(frozen=True)
class Table:
    """A table: `groups` are blocks of rows; a row has a cell for each column."""

    title: str
    columns: tuple[Column, ...]
    groups: tuple[tuple[tuple[Cell, ...], ...], ...]
    notes: tuple[str, ...]


def to_markdown(table: Table) -> str:
    """Write GitHub-flavored Markdown: heading, table with aligned source, one paragraph per note."""
    heading = [escape_markdown(column.heading) for column in table.columns]
    rows = [[_markdown_cell(cell) for cell in row] for group in table.groups for row in group]
    widths = [max(3, *map(len, column)) for column in zip(heading, *rows, strict=True)]
    rule = [
        '-' * (width - 1) + ':' if column.numeric else '-' * width
        for column, width in zip(table.columns, widths, strict=True)
    ]
    lines = [
        '| ' + ' | '.join(_pad(*item) for item in zip(cells, widths, table.columns, strict=True)) + ' |'
        for cells in (heading, rule, *rows)
    ]
    parts = [f'### {escape_markdown(table.title)}', '\n'.join(lines)]
    return '\n\n'.join([*parts, *map(escape_markdown, table.notes)]) + '\n'


def to_latex(table: Table) -> str:
    """Write a LaTeX `table*` with booktabs rules; rules separate the groups of rows."""
    alignment = ''.join('r' if column.numeric else 'l' for column in table.columns)
    groups = [
        [_latex_row([_latex_cell(cell) for cell in row]) for row in group] for group in table.groups
    ]
    body = [line for group in groups for line in (r'    \midrule', *group)]
    lines = [
        r'% requires \usepackage{booktabs}',
        r'\begin{table*}[t]',
        r'  \centering',
        r'  \small',
        r'  \setlength{\tabcolsep}{3pt}',
        rf'  \caption{{{escape_latex(table.title)}.}}',
        rf'  \label{{tab:{_label(table.title)}}}',
        rf'  \begin{{tabular}}{{{alignment}}}',
        r'    \toprule',
        _latex_row([column.latex for column in table.columns]),
        *body,
        r'    \bottomrule',
        r'  \end{tabular}',
    ]
    if table.notes:
        notes = ' \\\\\n    '.join(map(escape_latex, table.notes))
        lines += [
            r'  \par\smallskip',
            r'  \parbox{\linewidth}{\footnotesize\raggedright',
            rf'    {notes}}}',
        ]
    return '\n'.join([*lines, r'\end{table*}']) + '\n'


def escape_markdown(text: str) -> str:
    """Escape Markdown markup; an underscore inside a word needs no escape."""
    special = r'[\\`*|<>\[\]~#&]|(?<![^\W_])_|_(?![^\W_])'
    return re.sub(special, r'\\\g<0>', ' '.join(text.split()))


def escape_latex(text: str) -> str:
    """Escape LaTeX markup, and write the special signs of tables as commands."""
    return ''.join(_LATEX.get(character, character) for character in ' '.join(text.split()))


_LATEX = {character: '\\' + character for character in '{}$&#%_'} | {
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '<': r'\textless{}',
    '>': r'\textgreater{}',
    '|': r'\textbar{}',
    # At the start of a row, LaTeX would read these two as options of the preceding `\\`.
    '[': '{[}',
    '*': '{*}',
    DASH: '--',
    MINUS: '$-$',
    DAGGER: r'$^\dagger$',
    DOUBLE_DAGGER: r'$^\ddagger$',
    SECTION: r'$^\S$',
    PILCROW: r'$^\P$',
    DELTA: r'$\Delta$',
    ALMOST: r'$^\approx$',
    PLUS_MINUS: r'$\pm$',
    RING: r'$^\circ$',
}


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    return (f'**{text}**' if cell.bold else text) + cell.mark


def _pad(text: str, width: int, column: Column) -> str:
    return text.rjust(width) if column.numeric else text.ljust(width)


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    return (rf'\textbf{{{text}}}' if cell.bold else text) + escape_latex(cell.mark)


def _latex_row(cells: list[str]) -> str:
    return '    ' + ' & '.join(cells) + r' \\'


def _label(title: str) -> str:
    return re.sub(r'[\W_]+', '-', title.lower()).strip('-')
