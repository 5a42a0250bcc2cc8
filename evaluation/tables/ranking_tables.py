"""Rankings as text: ranks by column, agreement of columns, probabilities, and sentences to quote."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from itertools import product
from string import ascii_uppercase

import numpy as np

from evaluation.statistics.bootstrap import CONFIDENCE
from evaluation.statistics.comparison import rounded
from evaluation.statistics.randomization import LEVEL
from evaluation.statistics.rank_agreement import Agreement, chance_of_tau
from evaluation.statistics.ranking import ColumnPair, RankedColumn, Ranking, Reversal
from evaluation.utils.formats import fixed
from evaluation.utils.text_tables import (
    ALMOST,
    DASH,
    MINUS,
    Cell,
    Column,
    Table,
    escape_latex,
    escape_markdown,
    to_latex,
    to_markdown,
)

FORMATS = ('markdown', 'latex', 'csv', 'json')
_PERCENT = f'{100 * CONFIDENCE:.0f} %'


def ranking_text(ranking: Ranking, format: str) -> str:
    """Return a ranking as text.

    Args:
        ranking: the ranking.
        format: one of `FORMATS`. Markdown and LaTeX hold tables and sentences; CSV holds scores, ranks
            and probabilities; JSON holds everything.
    """
    if format == 'json':
        return json.dumps(ranking_json(ranking), indent=1, allow_nan=False) + '\n'
    if format == 'csv':
        return _csv(ranking)
    tables = [ranks_table(ranking)]
    if ranking.pairs:
        tables.append(agreement_table(ranking))
    tables += [_probabilities_table(ranking, index) for index in _measured(ranking)]
    found = sentences(ranking)
    if format == 'latex':
        return '\n'.join([*map(to_latex, tables), *(f'{escape_latex(each)}\n' for each in found)])
    listed = '\n'.join(f'- {escape_markdown(each)}' for each in found)
    return '\n'.join([*map(to_markdown, tables[:2]), f'{listed}\n', *map(to_markdown, tables[2:])])


def letter(index: int) -> str:
    """Return the short name of a column: A to Z, then A1 to Z1, and so on."""
    turn, place = divmod(index, len(ascii_uppercase))
    return f'{ascii_uppercase[place]}{turn or ""}'


def ranks_table(ranking: Ranking) -> Table:
    """Return a table of rank, interval of the rank and score of each contestant in each column."""
    columns = [Column('Contestant', 'Contestant', numeric=False)]
    columns += [Column(name, name) for name in map(letter, range(len(ranking.columns)))]
    rows = [
        (Cell(name), *(_rank_cell(each, index) for each in ranking.columns))
        for index, name in enumerate(ranking.contestants)
    ]
    notes = [
        f'Rank, with its {_PERCENT} interval in parentheses, and score in percent. All intervals of '
        'ranks hold together: they follow from the pairs that are told apart, in all columns, by '
        f'{ranking.resamples:,} resamples of the images{_with_seeds(ranking)}.',
        *(f'{letter(index)}: {column_text(each)}.' for index, each in enumerate(ranking.columns)),
        *ranking.cautions,
    ]
    return Table('Ranks', tuple(columns), (tuple(rows),), tuple(notes))


def _with_seeds(ranking: Ranking) -> str:
    measured = [each for each in ranking.columns if not each.is_published]
    if max(each.seeds for each in measured) == 1:
        return '. Variation between seeds is not included'
    has_single = min(each.fewest_seeds for each in measured) == 1
    few = ', except of contestants with a single seed' if has_single else ''
    return f' and of the seeds{few}'


def column_text(column: RankedColumn) -> str:
    """Return title, number of images and number of seeds of a column."""
    if column.is_published:
        return f'{column.title} (no interval)'
    seeds = f', up to {column.seeds} seeds' if column.seeds > 1 else ''
    return f'{column.title} ({column.images:,} images{seeds})'


def _rank_cell(column: RankedColumn, index: int) -> Cell:
    if not column.ranks[index]:
        return Cell(DASH)
    rank = f'{column.ranks[index]}'
    if not column.is_published:
        rank += f' ({column.low[index]} to {column.high[index]})'
    score = rounded(column.scores[index], column.metric)
    return Cell(f'{rank}, {score}', bold=bool(column.ranks[index] == 1))


def agreement_table(ranking: Ranking) -> Table:
    """Return a table of Kendall's tau-b of every two columns."""
    headings = (
        'Columns',
        "Kendall's tau-b",
        'These contestants',
        'Of this kind',
        'Reversed',
        'In words',
    )
    columns = [Column(text, text, numeric=text not in ('Columns', 'In words')) for text in headings]
    rows = [
        (
            Cell(f'{letter(pair.first)} and {letter(pair.second)}'),
            Cell(tau_text(pair.agreement.tau)),
            Cell(_ends_text(pair.agreement.low, pair.agreement.high)),
            Cell(_ends_text(pair.agreement.kind_low, pair.agreement.kind_high)),
            Cell(f'{len(pair.reversals)} of {math.comb(pair.contestants, 2)}'),
            Cell(verdict(pair.agreement)),
        )
        for pair in ranking.pairs
    ]
    notes = [
        f'Tau-b is 1 for the same order, {MINUS}1 for opposite orders. These contestants: {_PERCENT} '
        'interval of tau of their true scores, which would come from any number of images of these '
        'kinds. Noise moves the measured tau towards 0, so the interval may lie on one side of it. Of '
        f'this kind: {_PERCENT} interval for other contestants of which these are a random sample.',
        'Reversed: pairs that are told apart in both columns, in opposite order.',
        few_contestants_text(len(ranking.contestants)),
    ]
    return Table('Agreement of the columns', tuple(columns), (tuple(rows),), tuple(notes))


def few_contestants_text(count: int) -> str:
    """Return a sentence on how much a number of contestants can show."""
    pairs = math.comb(count, 2)
    values = [1 - 2 * discordant / pairs for discordant in range(pairs // 2 + 1)]
    rare = [value for value in values if chance_of_tau(count, value) <= LEVEL]
    limit = min(rare, default=1.0)
    chance = chance_of_tau(count, limit)
    share = fixed(100 * chance, 1 if chance < 0.1 else 0)
    few = ' Few contestants give wide intervals.' if count < 10 else ''
    return (
        f'Two unrelated orders of {count} contestants have a tau of {tau_text(limit)} or more, or '
        f'{tau_text(-limit)} or less, in {share} % of cases.{few}'
    )


def tau_text(value: float) -> str:
    """Return `0.60` or `−0.40`."""
    return DASH if math.isnan(value) else fixed(value, 2).replace('-', MINUS)


def _ends_text(low: float, high: float) -> str:
    return DASH if math.isnan(low) else f'{tau_text(low)} to {tau_text(high)}'


def verdict(found: Agreement) -> str:
    """Return what the intervals of tau say."""
    if math.isnan(found.low):
        return DASH
    if found.kind_low > 0:
        same = 'the same order is possible' if found.high == 1 else 'not the same order'
        return f'related; {same}'
    if found.kind_high < 0:
        return 'opposed'
    if found.high < 1:
        return 'not the same order; may be unrelated'
    return 'open: the same order and unrelated orders are possible'


def sentences(ranking: Ranking) -> list[str]:
    """Return one sentence for each reversal, or a sentence that there is none."""
    found = [reversal_text(ranking, pair, each) for pair in ranking.pairs for each in pair.reversals]
    if found or not ranking.pairs:
        return found
    return ['No pair of contestants is in opposite order in two columns by more than chance.']


def reversal_text(ranking: Ranking, pair: ColumnPair, reversal: Reversal) -> str:
    """Return a sentence about a pair whose order reverses."""
    names = ranking.contestants
    one, other = (ranking.columns[index] for index in (pair.first, pair.second))
    chance = f'{reversal.p_value:.2g}' if reversal.p_value >= 0.001 else '< 0.001'
    sign = '' if chance.startswith('<') else '= '
    return (
        f'{names[reversal.better]} is better than {names[reversal.worse]} in {letter(pair.first)} '
        f'({_scores_text(one, reversal.better, reversal.worse)}) and worse in {letter(pair.second)} '
        f'({_scores_text(other, reversal.better, reversal.worse)}); p {sign}{chance}, adjusted for all '
        'pairs and columns.'
    )


def _scores_text(column: RankedColumn, first: int, second: int) -> str:
    texts = [rounded(column.scores[index], column.metric) for index in (first, second)]
    return ' and '.join(texts)


def _measured(ranking: Ranking) -> Iterable[int]:
    return (index for index, each in enumerate(ranking.columns) if not each.is_published)


def _probabilities_table(ranking: Ranking, index: int) -> Table:
    """Return a table of the probability that each contestant is better than each other one."""
    column, names = ranking.columns[index], ranking.contestants
    columns = [
        Column('Better', 'Better', numeric=False),
        *(Column(name, escape_latex(name)) for name in names),
    ]
    told = np.minimum(column.p_values, column.p_values.T) <= LEVEL
    rows = [
        (Cell(name), *(_chance_cell(column, told, row, other) for other in range(len(names))))
        for row, name in enumerate(names)
    ]
    note = (
        'Percent of resamples in which the contestant of the row is better than that of the column; '
        f'ties count half. {ALMOST}: not told apart in any of the two directions, adjusted for all '
        'pairs and columns.'
    )
    title = f'Probability of being better in {letter(index)}: {column.title}'
    return Table(title, tuple(columns), (tuple(rows),), (note,))


def _chance_cell(column: RankedColumn, told: np.ndarray, row: int, other: int) -> Cell:
    if row == other:
        return Cell(DASH)
    mark = '' if told[row, other] else ALMOST
    return Cell(fixed(100 * column.better[row, other], 1), mark=mark)


def _csv(ranking: Ranking) -> str:
    """Return one row for each column and contestant."""
    text = io.StringIO()
    names = ranking.contestants
    heads = ['column', 'title', 'metric', 'published', 'images', 'seeds', 'contestant', 'score', 'rank']
    heads += ['rank_low', 'rank_high', *(f'better_than_{name}' for name in names)]
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(heads)
    for (place, each), (index, name) in product(enumerate(ranking.columns), enumerate(names)):
        if not each.ranks[index]:
            continue
        facts = [letter(place), each.title, each.metric, str(each.is_published).lower(), each.images]
        own = [each.seeds, name, each.scores[index], each.ranks[index]]
        rest = [None] * (2 + len(names))
        if not each.is_published:
            rest = [each.low[index], each.high[index], *each.better[index]]
            rest[2 + index] = None
        writer.writerow([*facts, *own, *rest])
    return text.getvalue()


def ranking_json(ranking: Ranking) -> dict:
    """Return a ranking for JSON, with null for undefined values."""
    return {
        'contestants': list(ranking.contestants),
        'columns': [_column_json(each, index) for index, each in enumerate(ranking.columns)],
        'pairs': [_pair_json(ranking, pair) for pair in ranking.pairs],
        'notes': list(ranking.cautions),
        'resamples': ranking.resamples,
        'sentences': sentences(ranking),
    }


def _column_json(column: RankedColumn, index: int) -> dict:
    found = {
        'name': letter(index),
        'title': column.title,
        'metric': column.metric,
        'published': column.is_published,
        'images': column.images,
        'seeds': column.seeds,
        'scores': _defined(column.scores.tolist()),
        'ranks': [each or None for each in column.ranks.tolist()],
    }
    if column.is_published:
        return found
    return found | {
        'rank_low': column.low.tolist(),
        'rank_high': column.high.tolist(),
        'better': column.better.tolist(),
        'p_values': column.p_values.tolist(),
    }


def _pair_json(ranking: Ranking, pair: ColumnPair) -> dict:
    found = pair.agreement
    names = ranking.contestants
    return {
        'columns': [letter(pair.first), letter(pair.second)],
        'contestants': pair.contestants,
        'tau_b': _defined([found.tau])[0],
        'these_contestants': _defined([found.low, found.high]),
        'of_this_kind': _defined([found.kind_low, found.kind_high]),
        'in_words': verdict(found),
        'reversals': [
            {'better': names[each.better], 'worse': names[each.worse], 'p_value': each.p_value}
            for each in pair.reversals
        ],
    }


def _defined(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(each) else each for each in values]
