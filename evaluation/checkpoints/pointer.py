"""The file `last_checkpoint` of a work dir: mmengine names in it the checkpoint that it wrote last."""

from pathlib import Path


def pointer_of(work_dir: str | Path) -> Path:
    """The file itself, which may be missing."""
    return Path(work_dir, 'last_checkpoint')


def named_checkpoint(work_dir: str | Path) -> str | None:
    """What the file says; '' if a crash left it empty or garbled, None if there is none."""
    try:
        return pointer_of(work_dir).read_text().replace('\0', '').strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ''


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint that was written last; None if there is none, or it is gone.

    In a work dir that was moved or copied it is the one that went along.
    """
    named = named_checkpoint(work_dir)
    places = [Path(work_dir, Path(named).name), Path(named)] if named else []
    return next((place for place in places if place.is_file()), None)
