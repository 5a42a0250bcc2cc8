"""Image files that are missing or not whole, told apart by their bytes alone."""

import cv2
from mmengine import fileio
from PIL import Image

from evaluation.errors import UserError

ADVICE = 'restore it, or leave such images out with --skip-bad-images'

# What decoders raise at what is no image, at a broken PNG, and at one that claims to be huge.
DECODER_ERRORS = (cv2.error, OSError, SyntaxError, Image.DecompressionBombError)

_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
# Second byte of markers of a JPEG: start of a scan, and those that no length follows.
_SCAN, _FILL = 0xDA, 0xFF
_BARE = {0x01, *range(0xD0, 0xD8)}


class BadFileError(UserError):
    """A file of the data set cannot be used.

    Raised in a process that loads data, it is built anew by torch from a message that is the whole
    traceback. Of that, only what this error said is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f'{BadFileError.__name__}: ')[2].strip())


def read_whole(path: str, backend_args: dict | None, advice: str = ADVICE) -> bytes:
    """Read an image file.

    Args:
        path: of the file.
        backend_args: of mmengine's file client.
        advice: what to do about a file that cannot be used, for the message.

    Raises:
        BadFileError: it is missing, cannot be read, is empty, or ends early.
    """
    try:
        content = fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        raise BadFileError(f'{path} is missing; {advice}') from None
    except OSError as error:
        raise BadFileError(f'{path} cannot be read ({error.strerror}); {advice}') from error
    if not content:
        raise BadFileError(f'{path} is empty; {advice}')
    if is_truncated(content):
        raise BadFileError(f'{path} ends early, as an interrupted copy does; {advice}')
    return content


def is_truncated(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; other formats are left to their decoder.

    Some decoders fill the rest with grey instead of failing. Bytes after the end do no harm.
    """
    if content.startswith(_PNG_START):
        return content.rfind(_PNG_END) < 0
    if content.startswith(_JPEG_START):
        # A thumbnail in the header has an end of its own; the codes of a scan cannot look like one.
        return content.rfind(_JPEG_END) < _first_scan(content)
    return False


def _first_scan(content: bytes) -> int:
    """Where the first scan of a JPEG starts, its length if none does (ITU-T T.81, annex B)."""
    position = 2
    while position + 4 <= len(content):
        start, marker = content[position], content[position + 1]
        if start != 0xFF or marker == _SCAN:
            return position
        if marker == _FILL:
            position += 1
        elif marker in _BARE:
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    return len(content)
