"""Known layouts of data roots, and the findings of an examination."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluation.data.map_layouts import MAP_LAYOUTS
from evaluation.utils.errors import UserError

COCO, IMAGENET = 'coco', 'imagenet'
LAYOUTS = (COCO, *MAP_LAYOUTS, IMAGENET)
COCO_FILES = 'annotations/instances_*.json'
IMAGENET_SPLITS = ('train', 'val')


@dataclass(frozen=True)
class Finding:
    """One problem with a data set.

    Attributes:
        kind: description of all findings of its kind, in the plural, such as `truncated images`.
        subject: file or entry, relative to the data root.
        text: description of the problem, to print after the subject.
    """

    kind: str
    subject: str
    text: str


@dataclass
class Examination:
    """Findings in a data set, and counts of what was checked.

    Attributes:
        root: path of the data root.
        layout: one of `LAYOUTS`.
        counts: number of checked items by their plural name, such as `images`.
        findings: findings in the order of discovery.
    """

    root: Path
    layout: str
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, subject: object, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, str(subject), text))

    def by_kind(self) -> dict[str, list[Finding]]:
        """Group findings by kind, in the order of discovery."""
        kinds: dict[str, list[Finding]] = {}
        for finding in self.findings:
            kinds.setdefault(finding.kind, []).append(finding)
        return kinds


def as_text(examination: Examination, examples: int) -> str:
    """Format a heading, then each kind with its count and its first findings."""
    counts = ', '.join(f'{count:,} {what}' for what, count in examination.counts.items())
    lines = [f'{examination.root} ({examination.layout}): {counts} checked', '']
    kinds = examination.by_kind()
    for kind, findings in kinds.items():
        lines.append(f'{len(findings):8,}  {kind}')
        lines += [f'{"":12}{each.subject} {each.text}' for each in findings[:examples]]
        lines += [f'{"":12}and {len(findings) - examples:,} more'] * (len(findings) > examples)
    if not kinds:
        return '\n'.join([*lines, 'clean: no findings'])
    return '\n'.join([*lines, '', f'findings: {len(examination.findings):,} of {len(kinds)} kinds'])


def as_json(examination: Examination) -> dict[str, Any]:
    """Return all findings, and their counts by kind."""
    return {
        'data_root': str(examination.root),
        'layout': examination.layout,
        'looked_at': dict(examination.counts),
        'numbers': {kind: len(findings) for kind, findings in examination.by_kind().items()},
        'findings': [asdict(finding) for finding in examination.findings],
    }


def recognized(root: Path) -> str | None:
    """Return the layout of a data root, recognized by its folders and files; None if unknown."""
    if any(root.glob(COCO_FILES)):
        return COCO
    for layout in MAP_LAYOUTS.values():
        if any((root / layout.folders(split)[1]).is_dir() for split in layout.splits):
            return layout.name
    lists = any((root / 'meta' / f'{split}.txt').is_file() for split in IMAGENET_SPLITS)
    if lists or all((root / split).is_dir() for split in IMAGENET_SPLITS):
        return IMAGENET
    return None


def layout_of(root: Path, wanted: str | None) -> str:
    """Return the given layout, or recognize it if none is given.

    Raises:
        UserError: the data root is not a folder, or its layout is unknown.
    """
    if not root.is_dir():
        raise UserError(f'data root {root} is not a folder; give --data-root')
    layout = wanted or recognized(root)
    if layout is None:
        maps = ', '.join(f'{each.folders_text} ({each.name})' for each in MAP_LAYOUTS.values())
        raise UserError(
            f'{root} has none of the known layouts: {COCO_FILES} (coco), {maps}, train/ and val/ or '
            'meta/train.txt (imagenet)'
        )
    return layout
