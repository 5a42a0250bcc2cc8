"""Where an evaluation comes from, as the page's panel of details shows it."""

import hashlib
from collections.abc import Mapping

from evaluation.report.runs import Run
from evaluation.tables.identity import training_text

# Shown elsewhere on the page, or as a section of its own.
_ELSEWHERE = {
    'schema_version', 'metrics', 'per_class', 'config', 'checkpoint', 'task', 'mixer', 'scale',
    'backbone', 'dataset', 'images', 'epoch', 'iteration', 'max_epochs', 'max_iterations', 'parameters',
    'complexity', 'versions', 'git', 'hardware', 'created', 'wall_time_seconds', 'seed',
    'initialization', 'recipe',
}  # fmt: skip
# Lists longer than this are counted, not written out.
_LONGEST_LIST = 20


def config_digest(run: Run) -> str:
    """SHA-256 of the config's text."""
    stated = run.document['config'].get('sha256')
    text = str(run.document['config'].get('text', ''))
    return stated or hashlib.sha256(text.encode()).hexdigest()


def provenance(run: Run) -> list[dict]:
    """Sections, each with a title and rows of a name and a text; what a file lacks is left out."""
    document, result = run.document, run.result
    sections = {
        'Evaluation': {
            'task': run.group,
            'images': result.images,
            'images skipped': result.images_skipped,
            'test-time augmentation': result.test_time_augmentation,
            'created': document.get('created'),
            'file': str(result.path),
        },
        'Training': {
            'progress': training_text(result),
            'start': result.initialization,
            'recipe': result.recipe,
            'seed': result.seed,
            'wall time (s)': document.get('wall_time_seconds'),
            'iterations': result.iteration,
        },
        'Checkpoint': document.get('checkpoint'),
        'Config': {
            'name': result.config,
            'sha256': config_digest(run),
        },
        'Model': {
            'parameters': result.total_parameters,
            'parameters of the backbone': result.backbone_parameters,
            'FLOPs': result.flops and result.flops.count,
            'FLOPs of an image of': result.flops and f'{result.flops.height}x{result.flops.width}',
        },
        'Code': document.get('git'),
        'Hardware': document.get('hardware'),
        'Versions': document.get('versions'),
        'Further': {name: value for name, value in document.items() if name not in _ELSEWHERE},
    }
    found = [{'title': title, 'rows': _rows(content)} for title, content in sections.items()]
    return [section for section in found if section['rows']]


def _rows(content: object, prefix: str = '') -> list[list[str]]:
    """Names and texts; a mapping in it becomes rows with dotted names."""
    if not isinstance(content, Mapping):
        return []
    rows = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            rows += _rows(value, f'{prefix}{name}.')
        elif value is not None:
            rows.append([f'{prefix}{name}', _text(value)])
    return rows


def _text(value: object) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, list):
        if len(value) > _LONGEST_LIST or any(isinstance(each, (list, Mapping)) for each in value):
            return f'{len(value)} entries'
        return ', '.join(map(str, value)) or 'none'
    return f'{value:,}'.replace(',', ' ') if isinstance(value, int) and value >= 10**5 else str(value)
