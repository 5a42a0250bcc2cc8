"""Results to rank: group them into columns, with the contestants that all columns have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evaluation.metrics.records import Evidence
from evaluation.results.result import Result
from evaluation.results.selection import by_experiment, select, table_of
from evaluation.statistics.rank_agreement import LEAST_CONTESTANTS
from evaluation.statistics.result_metrics import check_same_images
from evaluation.tasks import TASKS, find_metric
from evaluation.utils.errors import UserError, did_you_mean

# The variation between images is unknown for one.
LEAST_IMAGES = 2


@dataclass(frozen=True)
class Entries:
    """Results that compete in a column.

    Attributes:
        metric: name of the metric.
        runs: runs of each contestant, one for each seed, by name of the contestant.
        seed: seed of the runs if each seed is a column of its own.
        is_seed: whether each seed is a column of its own.
    """

    metric: str
    runs: Mapping[str, Sequence[Result]]
    seed: int | None = None
    is_seed: bool = False

    @property
    def first(self) -> Result:
        """Any of the results; they agree in all facts of the column."""
        return next(iter(self.runs.values()))[0]

    @property
    def results(self) -> list[Result]:
        """All runs of all contestants."""
        return [run for runs in self.runs.values() for run in runs]


@dataclass(frozen=True)
class Contest:
    """Columns and the contestants that all of them have.

    Attributes:
        contestants: names of the contestants, in the order of the runs of each column.
        columns: results to rank, by column.
        titles: titles that distinguish the columns.
        left_out: notes on contestants that a column lacks and on columns with few contestants.
    """

    contestants: tuple[str, ...]
    columns: tuple[Entries, ...]
    titles: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def results(self) -> list[Result]:
        """All results that are ranked, each once."""
        return [*{run.path: run for each in self.columns for run in each.results}.values()]

    def check(self, evidence_of: Callable[[Result], Evidence]) -> None:
        """Check that the results of each column have figures of the same images and annotations.

        Args:
            evidence_of: function that returns the per-image records of a result.

        Raises:
            UserError: images, classes or annotations differ, or a figure is undefined.
        """
        for each in self.columns:
            for run in each.results:
                if run.metrics[each.metric] is None:
                    raise UserError(
                        f'{run.path} has no {each.metric} (null), so it cannot be ranked; remove it, or '
                        'evaluate on images with ground truth'
                    )
                if run.images < LEAST_IMAGES:
                    raise UserError(
                        f'{run.path} was evaluated on {run.images} image; a ranking needs at least '
                        f'{LEAST_IMAGES}'
                    )
            check_same_images(each.results, [evidence_of(run) for run in each.results])


def finished(results: Sequence[Result]) -> list[Result]:
    """Return the results to rank: finished trainings, one evaluation for each setup and seed."""
    return [result for result in select(results, every=False) if result.training.finished]


def gather(
    results: Sequence[Result], metrics: Sequence[str] = (), by_seed: bool = False
) -> list[Entries]:
    """Group results into columns.

    Args:
        results: results from `finished`.
        metrics: names of the metrics, one column for each; by default the first primary metric of each
            task. Tasks without any of them are left out.
        by_seed: whether each seed is a column of its own.

    Raises:
        UserError: a metric is unknown, or a contestant has several experiments in a column.
    """
    _check_metrics(results, metrics)
    found: dict[tuple, dict[str, Sequence[Result]]] = {}
    for runs in by_experiment(results):
        for part in [[run] for run in runs] if by_seed else [runs]:
            own = part[0]
            for metric in _metrics_of(own, metrics):
                key = _condition(own), metric, own.seed if by_seed else None
                contestants = found.setdefault(key, {})
                if other := contestants.get(own.contestant.name):
                    raise UserError(
                        f'{other[0].path} and {own.path} are different experiments of '
                        f'{own.contestant.name} with the same recipe, length and start; give the '
                        'folder of one'
                    )
                contestants[own.contestant.name] = part
    return [
        Entries(metric, contestants, seed, by_seed) for (_, metric, seed), contestants in found.items()
    ]


def _check_metrics(results: Sequence[Result], metrics: Sequence[str]) -> None:
    known = {name for result in results for name in result.headline_metrics}
    for name in metrics:
        if name not in known:
            near = did_you_mean(name, known) or f'; choose from {", ".join(sorted(known))}'
            raise UserError(f'--metric {name!r}: no result has this metric{near}')


def _metrics_of(result: Result, metrics: Sequence[str]) -> list[str]:
    if not metrics:
        return [name for name in TASKS[result.task].primary if name in result.metrics][:1]
    return [name for name in dict.fromkeys(metrics) if name in result.headline_metrics]


def _condition(result: Result) -> tuple:
    """Return what distinguishes columns, apart from metric and seed.

    The digest of the annotations is left out: results of a column with different ones are an error.
    """
    return (
        table_of(result),
        result.recipe.name,
        result.recipe.fraction_seed,
        result.training.unit,
        result.training.total,
        result.start,
        result.variant,
        result.test_time_augmentation,
    )


def contest_of(columns: Sequence[Entries]) -> Contest:
    """Return the contestants that all columns have; leave out columns with fewer than three.

    Args:
        columns: columns from `gather`.

    Raises:
        UserError: fewer than three contestants are in all columns.
    """
    titles = _titles(columns)
    named = [*zip(titles, columns, strict=True)]
    small = [(title, each) for title, each in named if len(each.runs) < LEAST_CONTESTANTS]
    large = [(title, each) for title, each in named if len(each.runs) >= LEAST_CONTESTANTS]
    names = dict.fromkeys(name for _, each in large or named for name in each.runs)
    lacking = {
        name: title
        for name in names
        for title, each in reversed(large or named)
        if name not in each.runs
    }
    common = [name for name in names if name not in lacking]
    if not large or len(common) < LEAST_CONTESTANTS:
        title, fewest = min(large or named, key=lambda pair: len(pair[1].runs))
        raise UserError(
            f'{len(common)} of {len(names)} contestants are in all columns; a ranking needs '
            f'{LEAST_CONTESTANTS}. Give results of more contestants, or leave out a column: "{title}" '
            f'has only {", ".join(fewest.runs)}'
        )
    left_out = [
        *(f'{name} is left out: it has no finished result in "{lacking[name]}".' for name in lacking),
        *(
            f'The column "{title}" is left out: it has only {", ".join(each.runs)}.'
            for title, each in small
        ),
    ]
    kept = [replace(each, runs={name: each.runs[name] for name in common}) for _, each in large]
    return Contest(tuple(common), tuple(kept), tuple(title for title, _ in large), tuple(left_out))


# Facts that distinguish columns, in titles.
_TITLE_FACTS: tuple[Callable[[Entries], str | None], ...] = (
    lambda column: column.first.dataset,
    lambda column: column.first.start or 'start unknown',
    lambda column: column.first.variant and f'{column.first.variant} recipe',
    lambda column: 'TTA' if column.first.test_time_augmentation else None,
    lambda column: training_length(column.first),
    lambda column: column.first.recipe.name,
    lambda column: f'training images of seed {column.first.recipe.fraction_seed}',
    lambda column: f'seed {column.seed}' if column.is_seed else None,
)


def training_length(result: Result) -> str:
    """Return `12 epochs` or `160000 iterations`."""
    unit = 'iteration' if result.training.unit == 'iter' else result.training.unit
    return f'{result.training.total} {unit}{"" if result.training.total == 1 else "s"}'


def _titles(columns: Sequence[Entries]) -> list[str]:
    """Return titles that distinguish the columns, each with the facts in which equal ones differ."""
    metrics = [find_metric(each.metric).words for each in columns]
    titles = [each.first.recipe.heading for each in columns]
    for fact in _TITLE_FACTS:
        own = [(title, metric) for title, metric in zip(titles, metrics, strict=True)]
        texts = [fact(each) for each in columns]
        varied = {
            name for name in own if len({t for o, t in zip(own, texts, strict=True) if o == name}) > 1
        }
        titles = [
            f'{title}, {text}' if name in varied and text else title
            for title, name, text in zip(titles, own, texts, strict=True)
        ]
    return [f'{title}, {metric}' for title, metric in zip(titles, metrics, strict=True)]
