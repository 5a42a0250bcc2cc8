"""The section of a report that ranks contestants in all columns that share them."""

import math
from collections.abc import Mapping, Sequence

from evaluation.report.reported_runs import Problems, ReportedRun
from evaluation.results.published import Entry
from evaluation.statistics.comparison import Uncertainty
from evaluation.statistics.rank_agreement import LEAST_CONTESTANTS
from evaluation.statistics.ranking import rank
from evaluation.statistics.ranking_columns import Entries, contest_of, finished, gather
from evaluation.tables.bump_chart import PALETTE, places, turning
from evaluation.tables.ranking_tables import few_contestants_text, ranking_json
from evaluation.tasks import find_metric
from evaluation.utils.errors import UserError

LEAST_COLUMNS = 2


def ranking_section(
    runs: Sequence[ReportedRun],
    drawn: Mapping[str, Uncertainty],
    published: Sequence[Entry],
    problems: Problems,
) -> dict | None:
    """Return the ranking for the page's script; None without three contestants in two columns.

    Args:
        runs: runs with per-image records.
        drawn: figures on resampled images, by key of the run.
        published: published figures.
        problems: collects the reason why results cannot be ranked.
    """
    by_path = {run.result.path: drawn[run.key] for run in runs}
    try:
        gathered = gather(finished([run.result for run in runs]))
        columns = [each for each in gathered if len(each.runs) >= LEAST_CONTESTANTS]
        if len(columns) < LEAST_COLUMNS or len(_shared(columns)) < LEAST_CONTESTANTS:
            return None
        contest = contest_of(gathered)
        contest.check(lambda result: by_path[result.path].evidence)
        ranking = rank(contest, by_path, published)
    except UserError as error:
        problems.add(f'no ranking: {error}')
        return None
    found = ranking_json(ranking)
    for content, column in zip(found['columns'], ranking.columns, strict=True):
        content['digits'] = find_metric(column.metric).digits
        content['places'] = [None if math.isnan(each) else each for each in places(column).tolist()]
        # Large, and not shown.
        for name in ('p_values', 'better'):
            content.pop(name, None)
    return found | {
        'turning': [list(each) for each in sorted(turning(ranking))],
        'limits': few_contestants_text(len(ranking.contestants)),
        'palette': PALETTE,
    }


def _shared(columns: Sequence[Entries]) -> set[str]:
    return set.intersection(*(set(each.runs) for each in columns))
