"""Direct call of the code behind `tools/check_data.py`."""

from argparse import Namespace
from pathlib import Path

from evaluation.data.findings import Examination
from tools.check_data import examine


def look(
    root: Path,
    num_classes: int | None = None,
    keep_zero_label: bool = False,
    config: Path | None = None,
) -> Examination:
    """Examine a data root on two threads, with the options of the command line."""
    return examine(
        Namespace(
            data_root=root,
            kind=None,
            config=config,
            num_classes=num_classes,
            keep_zero_label=keep_zero_label,
            workers=2,
        )
    )
