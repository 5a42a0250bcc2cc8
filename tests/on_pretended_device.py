"""Run a command of the suite on the pretended device, and write its transfers to a file.

python tests/on_pretended_device.py TRANSFERS.json tools/train.py CONFIG ...
"""

import json
import runpy
import sys
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from unittest import mock

import torch

from evaluation.engine.hooks.training import DivergenceHook
from evaluation.utils import devices
from tests.pretended_device import NAME, Transfer, pretended_device


def main() -> None:
    """Run the command; write all transfers, and those between the ends of two steps of a training."""
    _, output, script, *arguments = sys.argv
    sys.argv = [script, *arguments]
    steps: list[int] = []
    check_loss = DivergenceHook.after_train_iter

    def counted(hook: DivergenceHook, *args: object, **settings: object) -> None:
        check_loss(hook, *args, **settings)
        steps.append(len(transfers))

    with (
        mock.patch.object(devices, 'find_device', return_value=torch.device(NAME)),
        mock.patch.object(DivergenceHook, 'after_train_iter', counted),
        pretended_device() as transfers,
    ):
        try:
            runpy.run_path(script, run_name='__main__')
        finally:
            parts = [transfers[start:end] for start, end in pairwise(steps)]
            content = {'steps': list(map(_counted, parts)), 'all': _counted(transfers)}
            Path(output).write_text(json.dumps(content))


def _counted(transfers: list[Transfer]) -> list[dict]:
    return [{**asdict(each), 'count': count} for each, count in Counter(transfers).items()]


if __name__ == '__main__':
    main()
