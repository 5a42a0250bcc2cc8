"""Run commands of the suite for a check, each in a process of its own, with its output in a file."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.gpu_check.checks import FailedCheckError, Settings
from evaluation.scenes.scene_datasets import write_ade20k, write_coco
from evaluation.scenes.scenes import SceneStyle

ROOT = Path(__file__).resolve().parents[2]
SPLITS = {'train': 20, 'val': 8}
# Height and width of the scenes: those that the recipes train on, and small ones for a quick check.
SCENES = {
    'mask_rcnn': SceneStyle(height=800, width=1280),
    'upernet': SceneStyle(height=512, width=512),
}
QUICK_SCENES = dict.fromkeys(SCENES, SceneStyle(height=96, width=96))
WRITERS = {'mask_rcnn': write_coco, 'upernet': write_ade20k}
LONGEST_LINE = 300


def scenes(settings: Settings, task: str) -> Path:
    """Return the folder of the generated scenes of a task; write them if they are missing."""
    style = (QUICK_SCENES if settings.quick else SCENES)[task]
    root = settings.folder / 'data' / f'{task}_{style.height}x{style.width}'
    WRITERS[task](root, style, SPLITS, seed=0)
    return root


def run(arguments: Sequence[str], log: Path, settings: Settings, device: str | None = None) -> None:
    """Run a command of the suite.

    Args:
        arguments: script and its arguments, relative to the root of the project.
        log: file for the output.
        settings: settings of all stages.
        device: device that the command finds; None for that of the settings.

    Raises:
        FailedCheckError: the command failed; the message is the last line of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    # Commands that train take the first device they find.
    kind, _, index = (device or settings.device).partition(':')
    if kind == 'cpu':
        environment['CUDA_VISIBLE_DEVICES'] = ''
    elif index:
        environment['CUDA_VISIBLE_DEVICES'] = index
    with log.open('w') as output:
        status = subprocess.run(
            [sys.executable, *arguments], stdout=output, stderr=output, cwd=ROOT, env=environment
        ).returncode
    if status:
        lines = log.read_text(errors='replace').strip().splitlines() or ['no output']
        raise FailedCheckError(
            f'{" ".join(arguments[:2])} ended with status {status}: {lines[-1][:LONGEST_LINE]} ({log})'
        )


def latest_result(folder: Path) -> Mapping:
    """Return the content of the latest `result.json` in a work dir.

    Raises:
        FailedCheckError: there is none.
    """
    files = sorted(folder.rglob('result.json'), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FailedCheckError(f'{folder} has no result.json')
    return json.loads(files[-1].read_text(encoding='utf-8'))


def scalars_of(folder: Path, name: str) -> list[float]:
    """Return the logged values of a scalar of the latest training in a work dir, in order."""
    files = sorted(folder.glob('*/vis_data/scalars.json'))
    entries = map(json.loads, files[-1].read_text().splitlines()) if files else ()
    return [entry[name] for entry in entries if name in entry and 'lr' in entry]
