"""What a run's folder holds: checkpoints, results, and whether they are those of a finished run."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluation.engine.checkpoints.pointer import candidates
from evaluation.sweep.identity import Identity


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        result: the `result.json` of the finished run; None where it is not finished.
        checkpoint: the last one, which may be damaged; None where there is none.
        is_trained: whether there is one of the end of the training.
        others: results of something else, of another config, seed or data.
    """

    result: Path | None = None
    checkpoint: Path | None = None
    is_trained: bool = False
    others: tuple[Path, ...] = ()


def look(folder: Path, identity: Identity, final: str | None) -> Findings:
    """Look into the folder of a run.

    Args:
        folder: of the run; may be missing.
        identity: what the run is.
        final: name of the checkpoint that the training ends with; None in a test alone.
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
    """Every `result.json` below a folder that can be read, oldest first."""
    for file in sorted(folder.glob('**/result.json'), key=lambda file: file.stat().st_mtime_ns):
        try:
            content = json.loads(file.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            yield file, content


def is_result_of(result: dict, identity: Identity) -> bool:
    """Whether a result is one of this run, at its end or on the way."""
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
    """What a start is called: a URL as it is, a file by its name, since it may be moved."""
    is_file = isinstance(source, str) and '://' not in source
    return Path(source).name if is_file else source


def is_at_the_end(result: dict) -> bool:
    """Whether a result is of the last epoch or iteration."""
    unit = 'iteration' if result.get('max_epochs') is None else 'epoch'
    done, planned = result.get(unit), result.get(f'max_{unit}s')
    return done is not None and planned is not None and done >= planned


def _at(content: object, *keys: str) -> object:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content
