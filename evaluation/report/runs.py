"""The evaluations of a report: which there are, how each is called, where its run lies."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from evaluation.results.result import Result
from evaluation.results.selection import row_order, select
from evaluation.tables.headings import title_of
from evaluation.tables.identity import training_text
from evaluation.tables.table import place

# Folders that mmengine names after the start of a run, and those of evaluations while training.
_TIME = re.compile(r'\d{8}_\d{6}')
_STEP = re.compile(r'(epoch|iter)_\d+')


@dataclass(frozen=True)
class Run:
    """One evaluation, as the page shows it.

    Attributes:
        key: identifies it on the page.
        label: a name that no other evaluation of its group has.
        group: task and data set; only within one are figures compared.
        result: what was read.
        document: the whole file.
        is_selected: whether it is the furthest and newest evaluation of its kind and seed.
        folder: of the run.
        started: name of the folder that mmengine made for this start of the run; None elsewhere.
    """

    key: str
    label: str
    group: str
    result: Result
    document: Mapping
    is_selected: bool
    folder: Path
    started: str | None


def gather_runs(results: Sequence[Result]) -> list[Run]:
    """Put evaluations in order, by group and there as in a table, and name them.

    Args:
        results: all that were found.
    """
    selected = {id(result) for result in select(results, every=False)}
    ordered = sorted(results, key=lambda result: (*place(result), row_order(result)))
    runs: list[Run] = []
    for _, members in groupby(ordered, key=place):
        alike = list(members)
        title = title_of(alike)
        for result, label in zip(alike, labels(alike), strict=True):
            folder, started = run_folder(result.path)
            run = Run(
                key=f'r{len(runs)}',
                label=label,
                group=title,
                result=result,
                document=json.loads(result.path.read_text(encoding='utf-8')),
                is_selected=id(result) in selected,
                folder=folder,
                started=started,
            )
            runs.append(run)
    return runs


def run_folder(file: Path) -> tuple[Path, str | None]:
    """Where the run of a `result.json` lies, and the name of the folder of its start.

    An evaluation while training lies in `RUN/START/STEP`, a test in `RUN/START`; any other file is taken
    for one that lies in its run's folder.
    """
    folder = file.parent
    if _STEP.fullmatch(folder.name) and _TIME.fullmatch(folder.parent.name):
        folder = folder.parent
    if _TIME.fullmatch(folder.name):
        return folder.parent, folder.name
    return file.parent, None


# What tells evaluations apart, in the order in which it is added to names that are alike.
_PARTS: tuple[Callable[[Result], str], ...] = (
    lambda result: result.start or '',
    lambda result: '' if result.recipe is None else f'{result.recipe} recipe',
    lambda result: result.config,
    lambda result: '' if result.seed is None else f'seed {result.seed}',
    lambda result: 'TTA' if result.test_time_augmentation else '',
    training_text,
    lambda result: f'{result.images} images',
    lambda result: result.created.strftime('%Y-%m-%d %H:%M:%S'),
    lambda result: str(result.path),
)


def labels(results: Sequence[Result]) -> list[str]:
    """A name for each of some evaluations: its backbone, and as much more as tells it from others.

    Args:
        results: of one task and data set, from different files.
    """
    names = [result.backbone for result in results]
    for part in _PARTS:
        counts = Counter(names)
        own = [part(result) for result in results]
        # Said only where it tells something apart: not where all that are alike share it.
        varied = {
            name
            for name in counts
            if len({text for other, text in zip(names, own, strict=True) if other == name}) > 1
        }
        names = [
            f'{name} {text}'.strip() if name in varied else name
            for name, text in zip(names, own, strict=True)
        ]
    return names
