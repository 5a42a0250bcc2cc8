"""What an examination found, and how it is written."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: in words that stand for all of its kind, such as `truncated images`.
        subject: the file or entry, relative to the data root.
        text: what is wrong with it.
    """

    kind: str
    subject: str
    text: str


@dataclass
class Examination:
    """What was looked at in a data set, and what was found.

    Attributes:
        root: of the data.
        layout: `coco`, `ade20k` or `imagenet`.
        counts: how many of what were looked at, in words.
        findings: in the order in which they were met.
    """

    root: Path
    layout: str
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, subject: object, text: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(kind, str(subject), text))

    def by_kind(self) -> dict[str, list[Finding]]:
        """Findings of each kind, kinds in the order in which they were met."""
        kinds: dict[str, list[Finding]] = {}
        for finding in self.findings:
            kinds.setdefault(finding.kind, []).append(finding)
        return kinds


def as_text(examination: Examination, examples: int) -> str:
    """A heading, then each kind with its number and the first of its findings."""
    counts = ', '.join(f'{count:,} {what}' for what, count in examination.counts.items())
    lines = [f'{examination.root} ({examination.layout}): {counts} looked at', '']
    kinds = examination.by_kind()
    for kind, findings in kinds.items():
        lines.append(f'{len(findings):8,}  {kind}')
        lines += [f'{"":12}{each.subject} {each.text}' for each in findings[:examples]]
        lines += [f'{"":12}and {len(findings) - examples:,} more'] * (len(findings) > examples)
    if not kinds:
        return '\n'.join([*lines, 'clean: no findings'])
    return '\n'.join([*lines, '', f'findings: {len(examination.findings):,} of {len(kinds)} kinds'])


def as_json(examination: Examination) -> dict[str, Any]:
    """All findings, with their numbers by kind."""
    return {
        'data_root': str(examination.root),
        'layout': examination.layout,
        'looked_at': dict(examination.counts),
        'numbers': {kind: len(findings) for kind, findings in examination.by_kind().items()},
        'findings': [asdict(finding) for finding in examination.findings],
    }
