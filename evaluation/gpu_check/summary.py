"""Markdown of a finished check: a summary, figures against targets, training, speed and kernels."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from evaluation.gpu_check.checks import FAILED, PASSED, SKIPPED
from evaluation.gpu_check.flex_attention import ADOPTED_AT
from evaluation.utils.files import replace_between
from evaluation.utils.formats import fixed, significant
from evaluation.utils.text_tables import Cell, Column, Table, to_markdown

START, END = '<!-- gpu check -->', '<!-- end of gpu check -->'
# Lowest fraction of the rate of matrix products in training, on one H100 or H200 in bf16.
TRAINING_TARGETS = {'convnext_tiny': 0.45, 'swin_tiny': 0.45}
LEAST_TARGET = 0.25
SPEEDUP_TARGETS = {'forward': 3.0, 'training': 4.0}
BANDWIDTH_TARGET = 0.6
GIB = 2**30


def outcomes_of(content: Mapping, stage: str) -> list[Mapping]:
    """Return the outcomes of a stage; none if it did not run."""
    return [each for found in content['stages'] if found['name'] == stage for each in found['outcomes']]


def has_failures(content: Mapping) -> bool:
    """Return whether a check failed or a stage ended early."""
    return any(
        stage['problem'] or any(outcome['status'] == FAILED for outcome in stage['outcomes'])
        for stage in content['stages']
    )


def render(content: Mapping) -> str:
    """Return all tables of a check."""
    parts = [facts(content), to_markdown(summary(content)), *failures(content)]
    tables = targets(content), trainings(content), *speeds(content), flex_attention(content)
    for table in (*tables, kernels(content)):
        if table.groups[0]:
            parts.append(to_markdown(table))
    return '\n\n'.join(part.strip() for part in parts) + '\n'


def facts(content: Mapping) -> str:
    """Return the device and versions in one paragraph."""
    found = {each['check']: each['figures'] for each in outcomes_of(content, 'environment')}
    device = found.get('device and versions', {})
    libraries = ', '.join(f'{name} {version}' for name, version in device.get('versions', {}).items())
    rates = [
        f'{name.removeprefix("matrix products in ")} {significant(figures["teraflops"])}'
        for name, figures in found.items()
        if 'teraflops' in figures
    ]
    copies = found.get('copies', {}).get('gigabytes_per_second')
    lines = [f'{device.get("name", "unknown device")}; {libraries}.' if libraries else '']
    if rates:
        lines.append(f'Matrix products, in 10^12 operations per second: {", ".join(rates)}.')
    if copies:
        lines.append(f'Copies: {significant(copies)} GB/s, reading and writing counted.')
    length = 'Quick check' if content['quick'] else 'Check'
    return ' '.join([f'{length} of {content["created"]}.', *lines])


def summary(content: Mapping) -> Table:
    """Return a table with a row for each stage."""
    rows = []
    for stage in content['stages']:
        counts = [
            sum(outcome['status'] == status for outcome in stage['outcomes'])
            for status in (PASSED, FAILED, SKIPPED)
        ]
        cells = [stage['name'], *map(str, counts), fixed(stage['seconds'], 0), stage['problem']]
        rows.append(tuple(map(Cell, cells)))
    headings = ('Stage', 'Passed', 'Failed', 'Skipped', 'Seconds', 'Ended early')
    return _table('Stages', headings, rows, texts=('Stage', 'Ended early'))


def failures(content: Mapping) -> Iterator[str]:
    """Yield a list of failed and of skipped checks with their reasons."""
    for status, heading in ((FAILED, 'Failed'), (SKIPPED, 'Skipped')):
        reasons: dict[str, list[str]] = {}
        for stage in content['stages']:
            for outcome in stage['outcomes']:
                if outcome['status'] == status:
                    reasons.setdefault(outcome['reason'], []).append(outcome['check'])
        if reasons:
            lines = [f'- {"; ".join(checks)}: {reason}' for reason, checks in reasons.items()]
            yield '\n'.join([f'{heading}:', '', *lines])


def targets(content: Mapping) -> Table:
    """Return measured figures beside the targets."""
    rows = []

    def add(what: str, found: float, target: float) -> None:
        verdict = 'met' if found >= target else 'missed'
        rows.append(tuple(map(Cell, (what, fixed(found, 2), fixed(target, 2), verdict))))

    for outcome in outcomes_of(content, 'speed'):
        if outcome['check'].startswith('dcnv3'):
            for passes, figures in outcome['figures'].items():
                if passes in SPEEDUP_TARGETS:
                    what = f'dcnv3, {passes}: speedup over plain sampling'
                    add(what, figures['speedup'], SPEEDUP_TARGETS[passes])
            forward = outcome['figures'].get('forward')
            if forward:
                what = 'dcnv3, forward: fraction of the bandwidth of copies'
                add(what, forward['fraction_of_copy_bandwidth'], BANDWIDTH_TARGET)
        elif outcome['check'].startswith(('backbones, training', 'later mixers, training')):
            for name, figures in outcome['figures'].items():
                if not name.startswith('timm:'):
                    what = f'{name}, {outcome["check"].split(", ", 1)[1]}: fraction of the peak'
                    add(what, figures['fraction_of_peak'], TRAINING_TARGETS.get(name, LEAST_TARGET))
    headings = ('Figure', 'Measured', 'Target', 'Verdict')
    title = 'Targets for an H100 or H200'
    return _table(title, headings, rows if not content['quick'] else [], texts=('Figure', 'Verdict'))


def trainings(content: Mapping) -> Table:
    """Return losses, times, and measured and predicted memory of the short trainings."""
    predicted = {each['check']: each['figures'] for each in outcomes_of(content, 'memory')}
    rows = []
    for outcome in outcomes_of(content, 'training'):
        figures = outcome['figures']
        if 'first_loss' not in figures:
            continue
        memory = figures['memory_bytes']
        expected = predicted.get(outcome['check'], {}).get('predicted')
        cells = [
            outcome['check'],
            significant(figures['first_loss']),
            significant(figures['last_loss']),
            fixed(1000 * figures['seconds_per_step'], 0),
            fixed(memory / GIB, 2) if memory else '',
            fixed(expected / GIB, 2) if expected else '',
        ]
        rows.append(tuple(map(Cell, cells)))
    headings = (
        *('Training', 'First loss', 'Last loss', 'ms per step'),
        *('Memory (GiB)', 'Predicted (GiB)'),
    )
    return _table('Short trainings', headings, rows, texts=('Training',))


def speeds(content: Mapping) -> Iterator[Table]:
    """Yield a table for each timed group of networks."""
    headings = ('Network', 'ms', 'Images/s', 'Of peak', 'Memory (GiB)')
    for outcome in outcomes_of(content, 'speed'):
        rows = []
        for name, figures in outcome['figures'].items():
            if not isinstance(figures, Mapping) or 'images_per_second' not in figures:
                continue
            cells = [
                name,
                significant(figures['milliseconds']),
                significant(figures['images_per_second']),
                fixed(figures['fraction_of_peak'], 2),
                fixed(figures['memory_bytes'] / GIB, 2),
            ]
            rows.append(tuple(map(Cell, cells)))
        title = outcome['check']
        yield _table(title[0].upper() + title[1:], headings, rows, texts=('Network',))


def kernels(content: Mapping) -> Table:
    """Return registers, spilled bytes and shared memory of each kernel and dtype by architecture."""
    architectures = {each['check']: each['figures'] for each in outcomes_of(content, 'kernels')}
    columns = sorted(architectures, key=lambda name: int(name.removeprefix('sm_')))
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for name, figures in architectures.items():
        for case, found in figures.items():
            call, _, dtype = case.rpartition(', ')
            for kernel, used in found.items():
                text = f'{used["registers"]} / {used["spilled"]} / {used["shared"]}'
                rows.setdefault((call, kernel, dtype), {})[name] = text
    cells = [
        tuple(map(Cell, (*key, *(texts.get(name, '') for name in columns))))
        for key, texts in rows.items()
    ]
    texts = ('Call', 'Kernel', 'Dtype')
    title = 'Kernels: registers / spilled bytes / bytes of shared memory'
    return _table(title, (*texts, *columns), cells, texts)


def flex_attention(content: Mapping) -> Table:
    """Return times of the suite's operators and of FlexAttention, and which to use; not if quick."""
    rows = []
    for outcome in outcomes_of(content, 'speed'):
        adopted = outcome['figures'].get('is_adopted')
        for stage, figures in outcome['figures'].items() if adopted is not None else ():
            if not stage.startswith('stage'):
                continue
            passes = [figures[name] for name in ('forward', 'training')]
            times = [each[key] for each in passes for key in ('milliseconds', 'flex_milliseconds')]
            speedup = fixed(figures['training']['speedup'], 2)
            verdict = 'FlexAttention' if adopted else 'ours'
            name = f'{outcome["check"].removeprefix("FlexAttention, ")}, {stage}'
            rows.append(tuple(map(Cell, (name, *map(significant, times), speedup, verdict))))
    headings = ('Attention', 'Forward', 'by Flex', 'Training', 'by Flex', 'Speedup', 'Use')
    title = (
        f'FlexAttention, ms; to be used at a speedup of {ADOPTED_AT} or more in training at both sizes'
    )
    return _table(title, headings, rows if not content['quick'] else [], texts=('Attention', 'Use'))


def _table(title: str, headings: tuple[str, ...], rows: list, texts: tuple[str, ...]) -> Table:
    columns = tuple(Column(heading, heading, heading not in texts) for heading in headings)
    return Table(title, columns, (tuple(rows),), ())


def write_docs(content: Mapping, page: Path) -> None:
    """Replace the part of a page between the markers by the tables of a check.

    Raises:
        UserError: the page cannot be read or written, or has no markers.
    """
    replace_between(page, START, END, render(content))
