"""Self-contained HTML page of the report: data, template and scripts."""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evaluation.report.analyses_and_speeds import Found, Speed, load_analyses, load_speeds, newest
from evaluation.report.drawn_samples import gather_pictures
from evaluation.report.figures_of_runs import (
    best_metrics,
    describe_group,
    describe_run,
    metric_label,
    published_points,
)
from evaluation.report.image_evidence import ImageFindings, weigh
from evaluation.report.reported_runs import Problems, ReportedRun, config_digest, gather_runs, provenance
from evaluation.report.training_curves import read_curves
from evaluation.results.published import Entry
from evaluation.results.reading import load_results
from evaluation.results.result import Result
from evaluation.results.selection import scale_names
from evaluation.results.shifted import in_distribution
from evaluation.statistics.bootstrap import RESAMPLES
from evaluation.tables.published_figures import not_compared_notes
from evaluation.tables.shifted_table import shifted_tables
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError
from evaluation.utils.formats import fixed, mixer_colors, signed, significant
from evaluation.utils.text_tables import Table

TITLE = 'Dense Mixer Bench'
_PACKAGE = 'evaluation.report'
# In order of their dependencies; they are joined into one script.
SCRIPTS = (
    'elements.js',
    'data.js',
    'styles.js',
    'marks.js',
    'state.js',
    'pareto.js',
    'charts.js',
    'names.js',
    'sections.js',
    'filters.js',
    'table.js',
    'details.js',
    'cost.js',
    'differences.js',
    'ranking.js',
    'classes.js',
    'errors.js',
    'training.js',
    'receptive_field.js',
    'invariance.js',
    'robustness.js',
    'calibration.js',
    'pictures.js',
    'main.js',
)


def build_page(
    folders: Sequence[Path],
    published: Sequence[Entry],
    title: str = TITLE,
    images: int = 0,
    resamples: int = RESAMPLES,
) -> bytes:
    """Build a report of everything found at any depth below some folders.

    Args:
        folders: work dirs.
        published: figures to compare with.
        title: title of the page.
        images: number of images on which to show predictions of each model; 0 for none.
        resamples: number of resamples for the intervals of evaluations with per-image records; 0 for
            none.

    Raises:
        UserError: a folder is missing, there are no results, or a result is malformed. Other malformed
            files are skipped, with a warning and a line on the page.
    """
    problems = Problems()
    results = load_results(folders)
    runs = gather_runs(in_distribution(results))
    sources = Sources(
        runs=runs,
        shifted=gather_shifted(results, resamples, problems),
        published=published,
        speeds=load_speeds(folders, problems),
        analyses=load_analyses(folders, problems),
        pictures=gather_pictures(runs, images, problems) if images else None,
        evidence=weigh(runs, resamples, problems, published),
        problems=problems,
    )
    return render_page(page_data(sources, title))


@dataclass
class Sources:
    """Sources of a report.

    Attributes:
        runs: runs in the order of the table.
        published: figures to compare with.
        speeds: measured times.
        analyses: analyses, oldest first.
        pictures: predictions by group, see `gather_pictures`; None if not requested.
        shifted: tables of figures under distribution shift.
        evidence: figures from per-image records.
        problems: skipped files.
    """

    runs: Sequence[ReportedRun]
    published: Sequence[Entry] = ()
    speeds: Sequence[Speed] = ()
    analyses: Sequence[Found] = ()
    pictures: dict | None = None
    shifted: Sequence[Table] = ()
    evidence: ImageFindings = field(default_factory=ImageFindings)
    problems: Problems = field(default_factory=Problems)


def page_data(sources: Sources, title: str) -> dict:
    """Return the data for the page's script, ready for JSON."""
    groups: dict[str, list[ReportedRun]] = {}
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
        run['calibration'] = sources.evidence.calibration.get(run['key'], {})
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
        'shifted': [_table(table) for table in sources.shifted],
        'differences': sources.evidence.differences,
        'ranking': sources.evidence.ranking,
        'colors': mixer_colors(run['mixer'] for run in runs if run['mixer']),
        'scales': scale_names(run.result for run in sources.runs),
        'problems': list(sources.problems.messages),
    }


def gather_shifted(results: Sequence[Result], resamples: int, problems: Problems) -> list[Table]:
    """Return the tables of figures under distribution shift; none if per-image records are invalid."""
    try:
        return shifted_tables(results, resamples, on_problem=problems.add)
    except UserError as error:
        problems.add(f'tests under distribution shift are not shown: {error}')
        return []


def _table(table: Table) -> dict:
    return {
        'title': table.title,
        'columns': [{'heading': each.heading, 'numeric': each.numeric} for each in table.columns],
        'rows': [[cell.text for cell in row] for group in table.groups for row in group],
        'notes': list(table.notes),
    }


def _details(runs: Sequence[ReportedRun]) -> tuple[dict, dict]:
    """Return the provenance of each run, and the texts of configs by digest."""
    details, configs = {}, {}
    for run in runs:
        digest = config_digest(run)
        configs[digest] = str(run.document['config'].get('text', ''))
        details[run.key] = {'sections': provenance(run), 'config': digest}
    return details, configs


def _curves(runs: Sequence[ReportedRun], problems: Problems) -> tuple[list[dict], dict[str, int | None]]:
    """Return the distinct curves, and the index of the curve of each evaluation."""
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
    """Return the distinct analyses of all runs, and their indices for each run."""
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


def render_page(data: Mapping) -> bytes:
    """Render a page.

    The page allows only scripts with known digests and loads nothing. So strings in a result can neither
    run code nor access the network, and the page works from disk.

    Args:
        data: data from `page_data`.
    """
    script = _script()
    plotly = _plotly()
    environment = Environment(
        loader=PackageLoader(_PACKAGE, 'templates'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['millions'] = lambda value: fixed(value / 1e6, 1)
    environment.filters['billions'] = lambda value: fixed(value / 1e9, 1)
    environment.filters |= {'fixed': fixed, 'signed': signed, 'significant': significant}
    text = environment.get_template('page.html').render(
        data=data,
        columns=_columns(data),
        policy=_policy(script, plotly),
        style=Markup(_asset('page.css')),
        script=Markup(script),
        plotly=base64.b64encode(zlib.compress(plotly.encode(), 9)).decode(),
        json=Markup(json_for_script(data)),
    )
    # Paths may contain bytes that are not valid text.
    return text.encode('utf-8', 'replace')


def json_for_script(data: Mapping) -> str:
    """Return JSON that is safe in a `script` element with any strings."""
    text = json.dumps(data, separators=(',', ':'), allow_nan=False)
    for character in '<>&':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return text


def _columns(data: Mapping) -> dict:
    """Return the columns of the table of runs, and the number of digits of their figures."""
    runs, groups = data['runs'], data['groups']
    metrics = list(dict.fromkeys(each['key'] for group in groups for each in group['metrics']))
    published = list(dict.fromkeys(metric for run in runs for metric in run['published']))
    figures = dict.fromkeys(name for each in data['analyses'] for name in each['figures'])
    of_others = any(
        figure['architecture'] != 'unified' for run in runs for figure in run['published'].values()
    )
    return {
        'metrics': metrics,
        'published': published,
        'figures': list(figures),
        'of_others': of_others,
        'recipe_unknown': any(f['isRecipeUnknown'] for run in runs for f in run['published'].values()),
        'not_compared': not_compared_notes((run['label'], run['notCompared']) for run in runs),
        'digits': {key: task.digits for key, task in TASKS.items()},
    }


def _policy(*scripts: str) -> str:
    digests = ' '.join(f"'sha256-{_digest(script)}'" for script in scripts)
    # Plotly sets style attributes, hence `unsafe-inline`.
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (resources.files(_PACKAGE) / 'assets' / name).read_text(encoding='utf-8')


def _script() -> str:
    """Return the page's script, in its own scope."""
    return '\n'.join(["'use strict';", '{', *map(_asset, SCRIPTS), '}'])


def _plotly() -> str:
    return (resources.files('plotly') / 'package_data' / 'plotly.min.js').read_text(encoding='utf-8')
