"""Tables of the demonstration, and conclusions from them."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from scipy.stats import t as student

from evaluation.results.reading import load_results
from evaluation.results.result import Result
from evaluation.results.selection import select
from evaluation.statistics.bootstrap import CONFIDENCE
from evaluation.statistics.comparison import Uncertainty, signed, uncertainties
from evaluation.tables.table import render
from evaluation.tasks import TASKS, find_metric
from evaluation.utils.files import write_text

HEADING = '### What these tables show'
CAUTION = (
    'Each mixer was trained once per start: another seed may change which pairs differ. Do not rank '
    'mixers by figures that cannot be told apart.'
)
# Starts of trainings, as in results.
SCRATCH, PRETRAINED = 'scratch', 'pretrained'


def write_tables(folders: Sequence[Path], target: Path) -> None:
    """Write the tables of the dense tasks with intervals and, below them, the conclusions.

    Args:
        folders: work dirs of all trainings.
        target: folder for `table.md` and `table.tex`.
    """
    results = select(load_results(folders), every=False)
    dense = [result for result in results if result.task != 'classification']
    known = uncertainties(dense)
    text = render(dense, [], 'markdown', uncertainty=known)
    write_text(target / 'table.md', '\n'.join([text, HEADING, '', *conclusions(dense, known)]))
    write_text(target / 'table.tex', render(dense, [], 'latex', uncertainty=known))


def conclusions(results: Sequence[Result], known: Mapping[Path, Uncertainty]) -> list[str]:
    """Return the conclusions for each task, as lines of Markdown.

    Args:
        results: results of trainings from scratch and from pretrained weights, one seed each.
        known: uncertainty of each result, by path.
    """
    found = []
    for task in dict.fromkeys(result.task for result in results):
        metric = TASKS[task].primary[0]
        members = [result for result in results if result.task == task]
        found += [f'- {pretraining_line(members, metric)}', f'- {mixers_line(members, metric, known)}']
    return [*found, '', CAUTION, '']


def pretraining_line(results: Sequence[Result], metric: str) -> str:
    """Describe the effect of pretraining, averaged over the mixers.

    Each mixer was trained from both starts and counts as one repetition. The interval is Student's, for
    the mean of their differences, so it includes the noise of training.
    """
    scratch, pretrained = (
        {result.contestant.name: result.metrics[metric] for result in results if result.start == start}
        for start in (SCRATCH, PRETRAINED)
    )
    word = find_metric(metric).words
    differences = [pretrained[name] - scratch[name] for name in scratch if name in pretrained]
    if len(differences) < 2:
        return f'**Pretraining, {word}**: fewer than two mixers were trained from both starts.'
    low, high = mean_interval(differences)
    figures = (
        f'{signed(statistics.fmean(differences), metric)} on average over {len(differences)} mixers '
        f'({100 * CONFIDENCE:.0f} % interval {signed(low, metric)} to {signed(high, metric)})'
    )
    verdict = 'cannot be told apart from 0' if low <= 0 <= high else 'differs from 0 by more than chance'
    return f'**Pretraining, {word}**: {figures}. This {verdict}.'


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's interval for the mean of at least two values, at the level `CONFIDENCE`."""
    half = student.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    half *= statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half


def mixers_line(results: Sequence[Result], metric: str, known: Mapping[Path, Uncertainty]) -> str:
    """Describe how many pairs of mixers with the same start can be told apart."""
    counts = []
    for start in (SCRATCH, PRETRAINED):
        members = [result for result in results if result.start == start]
        pairs = list(itertools.combinations(members, 2))
        apart = sum(_differ(*pair, metric, known) for pair in pairs)
        which = 'pairs from scratch' if start == SCRATCH else 'pretrained pairs'
        counts.append(f'{apart} of {len(pairs)} {which}')
    return (
        f'**Mixers, {find_metric(metric).words}**: {" and ".join(counts)} differ by more than the '
        f'choice of the {results[0].images} images explains.'
    )


def _differ(a: Result, b: Result, metric: str, known: Mapping[Path, Uncertainty]) -> bool:
    return bool(known[a.path].is_told_from(known[b.path], metric))
