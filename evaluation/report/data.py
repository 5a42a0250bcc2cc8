"""All that a page shows, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.report.analyses import Found, newest
from evaluation.report.evidence import Findings
from evaluation.report.figures_of_runs import (
    best_metrics,
    describe_group,
    describe_run,
    metric_label,
    published_points,
)
from evaluation.report.problems import Problems
from evaluation.report.provenance import config_digest, provenance
from evaluation.report.runs import Run
from evaluation.report.speeds import Speed
from evaluation.report.training_curves import read_curves
from evaluation.results.published import Entry
from evaluation.results.selection import MIXER_ORDER, SCALE_ORDER
from evaluation.utils.palette import mixer_colors


@dataclass
class Sources:
    """What a report is made of.

    Attributes:
        runs: in the order of the table.
        published: figures to compare with.
        speeds: measured times.
        analyses: the oldest first.
        pictures: predictions by group, see `gather_pictures`; None where none were asked for.
        evidence: what the images of evaluations tell beside their figures.
        problems: what was left out.
    """

    runs: Sequence[Run]
    published: Sequence[Entry] = ()
    speeds: Sequence[Speed] = ()
    analyses: Sequence[Found] = ()
    pictures: dict | None = None
    evidence: Findings = field(default_factory=Findings)
    problems: Problems = field(default_factory=Problems)


def page_data(sources: Sources, title: str) -> dict:
    """What the page's script draws; JSON can hold it."""
    groups: dict[str, list[Run]] = {}
    for run in sources.runs:
        groups.setdefault(run.group, []).append(run)
    best = {key: names for members in groups.values() for key, names in best_metrics(members).items()}
    runs = [describe_run(run, sources.published, sources.speeds, best[run.key]) for run in sources.runs]
    details, configs = _details(sources.runs)
    curves, curves_of = _curves(sources.runs, sources.problems)
    analyses, analyses_of = _analyses(sources)
    for run in runs:
        run['curves'] = curves_of[run['key']]
        run['analyses'] = analyses_of[run['key']]
        run['intervals'] = sources.evidence.intervals.get(run['key'], {})
        run['errors'] = sources.evidence.errors.get(run['key'], {})
        run['figures'] = {
            name: value
            for index in run['analyses'].values()
            for name, value in analyses[index]['figures'].items()
        }
    metrics = {name for run in runs for name in run['metrics']}
    return {
        'title': title,
        'newest': max(run['created'] for run in runs),
        'groups': [describe_group(title, members) for title, members in groups.items()],
        'labels': {metric: metric_label(metric) for metric in sorted(metrics)},
        'runs': runs,
        'details': details,
        'configs': configs,
        'published': published_points(sources.published, groups),
        'speeds': [{'condition': s.condition, 'file': str(s.file)} for s in sources.speeds],
        'curves': curves,
        'analyses': analyses,
        'pictures': sources.pictures,
        'differences': sources.evidence.differences,
        'colors': mixer_colors(MIXER_ORDER, {run['mixer'] for run in runs if run['mixer']}),
        'scales': list(SCALE_ORDER),
        'problems': list(sources.problems.messages),
    }


def _details(runs: Sequence[Run]) -> tuple[dict, dict]:
    """Provenance by run, and texts of configs by digest, each once."""
    details, configs = {}, {}
    for run in runs:
        digest = config_digest(run)
        configs[digest] = str(run.document['config'].get('text', ''))
        details[run.key] = {'sections': provenance(run), 'config': digest}
    return details, configs


def _curves(runs: Sequence[Run], problems: Problems) -> tuple[list[dict], dict[str, int | None]]:
    """Curves, each once for all evaluations of a run, and which are of which evaluation."""
    found: dict[tuple[Path, str | None], int | None] = {}
    curves: list[dict] = []
    for run in runs:
        place = (run.folder, run.started)
        if place not in found:
            read = read_curves(run.folder, run.started, problems)
            found[place] = None if read is None else len(curves)
            if read is not None:
                curves.append(read.as_json())
    return curves, {run.key: found[run.folder, run.started] for run in runs}


def _analyses(sources: Sources) -> tuple[list[dict], dict[str, dict[str, int]]]:
    """Analyses of the weights of any run, each once, and which are of which run."""
    shown: dict[int, int] = {}
    analyses: list[dict] = []
    of_runs: dict[str, dict[str, int]] = {}
    for run in sources.runs:
        own = newest(sources.analyses, run.result.weights_sha256)
        for each in own.values():
            if id(each) not in shown:
                shown[id(each)] = len(analyses)
                analyses.append(
                    {
                        'kind': each.kind,
                        'basis': each.basis,
                        'note': each.note,
                        'file': str(each.file),
                        'figures': dict(each.figures),
                        **each.content,
                    }
                )
        of_runs[run.key] = {kind: shown[id(each)] for kind, each in own.items()}
    return analyses, of_runs
