"""The latest whole checkpoint of a work dir, whatever a crash, a full disk or a move left of it."""

import zipfile
from pathlib import Path

from backbones import DamagedFileError
from backbones.checkpoint import read_checkpoint
from evaluation.engine.checkpoints.pointer import candidates, named_checkpoint, pointer_of
from evaluation.utils.errors import UserError, warn


def latest_checkpoint(work_dir: str) -> tuple[str, dict] | None:
    """Path and content of the checkpoint to go on from; None if there is none.

    It is the one that `last_checkpoint` names, wherever the work dir lies now, else the newest by its
    number. One that is damaged is passed over for the one before, with a warning that names both.

    Raises:
        BackboneError: a checkpoint cannot be read for another reason than damage.
        UserError: `last_checkpoint` names one that is gone and there is no other, or none is whole.
    """
    named = named_checkpoint(work_dir)
    damage: list[str] = []
    for file in candidates(Path(work_dir)):
        try:
            content = read_whole_checkpoint(str(file))
        except DamagedFileError as error:
            damage.append(str(error).partition(';')[0])
            continue
        _warn_of_another(work_dir, named, str(file), damage)
        return str(file), content
    if damage:
        raise UserError(
            f'no checkpoint in {work_dir} is whole: {", ".join(damage)}; '
            'restore one, or leave --resume out to start anew'
        )
    if named:
        raise UserError(
            f'{pointer_of(work_dir)} names {named}, which is not there, nor is any other '
            'checkpoint; restore it, or leave --resume out to start anew'
        )
    return None


def read_whole_checkpoint(source: str) -> dict:
    """Content of a checkpoint whose bytes are those that were written.

    `torch.load` does not compare the checksums that `torch.save` writes. Files that have none, of other
    formats or from elsewhere, are read as they are.

    Args:
        source: path or URL.

    Raises:
        DamagedFileError: the file is empty, truncated, or a checksum differs.
        BackboneError: it cannot be read for another reason.
    """
    content = read_checkpoint(source)
    if 'optimizer' in content and Path(source).is_file() and zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as file:
            try:
                changed = file.testzip()
            except (zipfile.BadZipFile, OSError) as error:
                changed = str(error)
        if changed:
            raise DamagedFileError(
                f'checkpoint {source} is damaged (checksum of {changed}); get it again'
            )
    return content


def _warn_of_another(work_dir: str, named: str | None, file: str, damage: list[str]) -> None:
    """Say why the training goes on from another checkpoint than `last_checkpoint` names."""
    if damage:
        warn(f'{", ".join(damage)}; going on from the one before, {file}')
    elif named is None:
        warn(f'{work_dir} has no last_checkpoint; going on from the newest that is whole, {file}')
    elif not named:
        warn(f'{work_dir}/last_checkpoint is empty; going on from the newest that is whole, {file}')
    elif not Path(named).is_file():
        warn(f'{work_dir}/last_checkpoint names {named}, which is not there; going on from {file}')
