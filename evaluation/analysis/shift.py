"""Summary of a test under distribution shift, beside its results."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.analysis.results import FOLDER, result_content, write_content
from evaluation.results.result import Result
from evaluation.results.shifted import ShiftedRun, shifted_runs

ANALYSIS = 'shift'


def write_summary(results: Sequence[Result], data: str) -> Path:
    """Write figures and origin of a test under shift to `<run>/analysis/shift.json`.

    Args:
        results: results of the test, in distribution and of all domains.
        data: folder of the domains.

    Returns:
        The file.

    Raises:
        UserError: the file cannot be written.
    """
    (run,) = shifted_runs(results)
    folder = run.inside.path.parent / FOLDER
    folder.mkdir(exist_ok=True)
    file = folder / f'{ANALYSIS}.json'
    # Imported here, so that tables and the report start without it.
    import torch

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    content = result_content(ANALYSIS, facts_of(run, data), figures_of(run), note_of(run), device)
    write_content(file, content)
    return file


def facts_of(run: ShiftedRun, data: str) -> dict:
    """Return the figures and the origin of a test under shift."""
    inside = run.inside
    return {
        'config': {'name': inside.config, 'sha256': inside.config_sha256},
        'checkpoint': {
            'file': inside.checkpoint,
            'sha256': inside.checkpoint_sha256,
            'weights_sha256': inside.weights_sha256,
        },
        'task': inside.task,
        'images': {'count': sum(result.images for result in run.domains.values())},
        'suite': {'key': run.suite.key, 'source': run.suite.source, 'slope': run.suite.slope},
        'data': data,
        'metric': run.suite.metric,
        'in_distribution': _figure(run, inside),
        'domains': {name: _figure(run, result) for name, result in run.domains.items()},
        'mean': run.mean,
        'effective_robustness': run.effective_robustness,
    }


def _figure(run: ShiftedRun, result: Result) -> dict:
    return {
        'dataset': result.dataset,
        'images': result.images,
        'data_sha256': result.data_sha256,
        'value': result.metrics.get(run.suite.metric),
        'result': str(result.path.relative_to(run.inside.path.parent)),
    }


def figures_of(run: ShiftedRun) -> dict[str, float | None]:
    """Return the figures for tables of accuracies, by heading."""
    return {run.suite.title: run.mean, 'ER': run.effective_robustness}


def note_of(run: ShiftedRun) -> str:
    """Return the explanation of these figures."""
    images = sum(result.images for result in run.domains.values())
    return (
        f'{run.suite.title}: mean box AP over {", ".join(run.domains)}; {images:,} images. ER: this '
        f'mean minus {run.suite.slope:g} times the box AP in distribution.'
    )
