"""What is to be done about a run, from what its folder says."""

from dataclasses import dataclass
from pathlib import Path

from evaluation.sweep.findings import Findings
from evaluation.sweep.identity import Identity, differences
from evaluation.sweep.record import DONE, FAILED, Record

FINISHED, NEW, RESUME, RETRY, RUNS, REFUSED = 'finished', 'new', 'resume', 'retry', 'runs', 'refused'
# A run that fails is tried so often, and once more by the next command.
ATTEMPTS = 2


@dataclass(frozen=True)
class Decision:
    """What to do, one of the words above, and why."""

    action: str
    reason: str

    @property
    def attempts(self) -> int:
        """How often the run may be started by this command."""
        return {NEW: ATTEMPTS, RESUME: ATTEMPTS, RUNS: ATTEMPTS, RETRY: 1}.get(self.action, 0)


def decide(
    folder: Path, identity: Identity, record: Record | None, findings: Findings, is_alive: bool
) -> Decision:
    """Decide about one run.

    Args:
        folder: of the run.
        identity: what is to be run.
        record: of the last attempt there.
        findings: what lies there.
        is_alive: whether a job of that attempt is queued or running.
    """
    if why := why_another(folder, identity, record):
        return Decision(REFUSED, why)
    if is_alive:
        return Decision(RUNS, f'{record.state} as job {record.job}' if record else 'runs already')
    if findings.result:
        return Decision(FINISHED, f'{findings.result}')
    if record is None:
        return _without_record(folder, findings)
    if record.state == FAILED:
        return Decision(RETRY, f'failed before: {record.error}')
    if findings.is_trained:
        return Decision(RESUME, 'trained, but not evaluated')
    if record.state == DONE:
        return Decision(RESUME, 'was done, but its last checkpoint or its result is gone')
    if findings.checkpoint:
        return Decision(RESUME, f'interrupted after {findings.checkpoint.name}')
    return Decision(NEW, 'interrupted before its first checkpoint')


def why_another(folder: Path, identity: Identity, record: Record | None) -> str | None:
    """In which way the run that a record is of is another than is wanted; None if it is not.

    Args:
        folder: of the run.
        identity: what is wanted.
        record: of the last attempt there.
    """
    differing = ' and '.join(differences(identity, record.identity)) if record else ''
    if not differing:
        return None
    return f'{folder} holds a run that differs in {differing}; give another --work-dir'


def _without_record(folder: Path, findings: Findings) -> Decision:
    if findings.others or findings.checkpoint:
        file = findings.checkpoint or findings.others[0]
        return Decision(
            REFUSED,
            f'{file} is of a training that no sweep began, or of another; give another --work-dir',
        )
    return Decision(NEW, 'nothing there')
