"""A page's data as one HTML file that needs nothing beside it.

Scripts are allowed by their digests alone and nothing may be loaded from anywhere, so that what a
result calls itself can neither run nor phone home, and the page works from a disk.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evaluation.tables.table import not_compared_notes
from evaluation.tasks import TASKS
from evaluation.utils.rounding import fixed, signed, significant

_PACKAGE = 'evaluation.report'
# In the order in which they are needed; together one script.
SCRIPTS = (
    'elements.js',
    'data.js',
    'styles.js',
    'marks.js',
    'state.js',
    'pareto.js',
    'charts.js',
    'sections.js',
    'filters.js',
    'table.js',
    'details.js',
    'cost.js',
    'differences.js',
    'classes.js',
    'errors.js',
    'training.js',
    'receptive_field.js',
    'invariance.js',
    'robustness.js',
    'pictures.js',
    'main.js',
)


def render_page(data: Mapping) -> bytes:
    """Write a page.

    Args:
        data: as `page_data` gives it.
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
    # A path may hold bytes that are no text.
    return text.encode('utf-8', 'replace')


def json_for_script(data: Mapping) -> str:
    """JSON that can stand in a `script` element, whatever strings it holds."""
    text = json.dumps(data, separators=(',', ':'), allow_nan=False)
    for character in '<>&':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return text


def _columns(data: Mapping) -> dict:
    """Which columns the table of runs has, and how many digits their figures."""
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
    # Plotly sets style attributes.
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (resources.files(_PACKAGE) / 'assets' / name).read_text(encoding='utf-8')


def _script() -> str:
    """The page's own script, in a scope of its own."""
    return '\n'.join(["'use strict';", '{', *map(_asset, SCRIPTS), '}'])


def _plotly() -> str:
    return (resources.files('plotly') / 'package_data' / 'plotly.min.js').read_text(encoding='utf-8')
