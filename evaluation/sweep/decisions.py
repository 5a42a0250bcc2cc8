"""Decide what to do about a run from the contents of its folder."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluation.engine.checkpoints import candidates
from evaluation.sweep.record import DONE, FAILED, Identity, Record, differences

FINISHED, NEW, RESUME, RETRY, RUNS, REFUSED = 'finished', 'new', 'resume', 'retry', 'runs', 'refused'
# Attempts at a failing run by one command; the next command makes one more.
ATTEMPTS = 2


@dataclass(frozen=True)
class Findings:
    """Contents of the folder of a run.

    Attributes:
        result: `result.json` of the finished run; None if it is not finished.
        checkpoint: last checkpoint, which may be corrupt; None if there is none.
        is_trained: whether the final checkpoint of the training exists.
        others: results of a different config, seed or data set.
    """

    result: Path | None = None
    checkpoint: Path | None = None
    is_trained: bool = False
    others: tuple[Path, ...] = ()


def look(folder: Path, identity: Identity, final: str | None) -> Findings:
    """Inspect the folder of a run.

    Args:
        folder: folder of the run; may be missing.
        identity: identity of the run.
        final: name of the final checkpoint of the training; None for a test.
    """
    checkpoint = next(candidates(folder), None)
    is_trained = final is not None and (folder / final).is_file()
    finished, others = None, []
    for file, result in results(folder):
        if not is_result_of(result, identity):
            others.append(file)
        elif identity.is_test or (is_trained and is_at_the_end(result)):
            finished = file
    return Findings(finished, checkpoint, is_trained, tuple(others))


def results(folder: Path) -> Iterator[tuple[Path, dict]]:
    """Yield every readable `result.json` below a folder, oldest first."""
    for file in sorted(folder.glob('**/result.json'), key=lambda file: file.stat().st_mtime_ns):
        try:
            content = json.loads(file.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            yield file, content


def is_result_of(result: dict, identity: Identity) -> bool:
    """Return whether a result belongs to this run, whether final or intermediate."""
    same = [
        (_at(result, 'data', 'sha256'), identity.data_sha256),
        (result.get('test_time_augmentation'), False),
    ]
    if identity.is_test:
        same += [(_at(result, 'checkpoint', 'sha256'), identity.checkpoint_sha256)]
    else:
        same += [
            (result.get('seed'), identity.seed),
            (_at(result, 'training_data', 'sha256'), identity.training_data_sha256),
            (start_name(result.get('initialization')), identity.start),
            (result.get('batch_size'), identity.batch_size),
        ]
    is_config = identity.has_config(_at(result, 'config', 'sha256'))
    return is_config and all(found == wanted for found, wanted in same)


def start_name(source: object) -> object:
    """Return the name of initial weights: a URL, or a file without its folder, which may change."""
    is_file = isinstance(source, str) and '://' not in source
    return Path(source).name if is_file else source


def is_at_the_end(result: dict) -> bool:
    """Return whether a result is from the last epoch or iteration."""
    unit = 'iteration' if result.get('max_epochs') is None else 'epoch'
    done, planned = result.get(unit), result.get(f'max_{unit}s')
    return done is not None and planned is not None and done >= planned


def _at(content: object, *keys: str) -> object:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


@dataclass(frozen=True)
class Decision:
    """Action (one of the constants above) and its reason."""

    action: str
    reason: str

    @property
    def attempts(self) -> int:
        """Number of times that this command may start the run."""
        return {NEW: ATTEMPTS, RESUME: ATTEMPTS, RUNS: ATTEMPTS, RETRY: 1}.get(self.action, 0)


def decide(
    folder: Path, identity: Identity, record: Record | None, findings: Findings, is_alive: bool
) -> Decision:
    """Decide what to do about a run.

    Args:
        folder: folder of the run.
        identity: identity of the requested run.
        record: record of the last attempt there.
        findings: contents of the folder.
        is_alive: whether a job of that attempt is queued or running.
    """
    if why := why_another(folder, identity, record):
        return Decision(REFUSED, why)
    if is_alive:
        return Decision(RUNS, f'{record.state} as job {record.job}' if record else 'already running')
    if findings.result:
        return Decision(FINISHED, f'{findings.result}')
    if record is None:
        return _without_record(folder, findings)
    if record.state == FAILED:
        return Decision(RETRY, f'failed before: {record.error}')
    if findings.is_trained:
        return Decision(RESUME, 'trained, but not evaluated')
    if record.state == DONE:
        return Decision(RESUME, 'was done, but its final checkpoint or its result is missing')
    if findings.checkpoint:
        return Decision(RESUME, f'interrupted after {findings.checkpoint.name}')
    return Decision(NEW, 'interrupted before its first checkpoint')


def why_another(folder: Path, identity: Identity, record: Record | None) -> str | None:
    """Return how the recorded run differs from the requested one; None if it does not.

    Args:
        folder: folder of the run.
        identity: identity of the requested run.
        record: record of the last attempt there.
    """
    differing = ' and '.join(differences(identity, record.identity)) if record else ''
    if not differing:
        return None
    return f'{folder} contains a run that differs in {differing}; give another --work-dir'


def _without_record(folder: Path, findings: Findings) -> Decision:
    if findings.others or findings.checkpoint:
        file = findings.checkpoint or findings.others[0]
        return Decision(
            REFUSED,
            f'{file} is from a training outside any sweep or from another run; give another --work-dir',
        )
    return Decision(NEW, 'not started yet')
