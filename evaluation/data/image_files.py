"""Image files: names below a folder, damaged or too large files, and EXIF orientation.

Image files are untrusted: a file can be a pipe that nobody writes to, claim a size that exceeds memory,
or have a format whose decoder executes code from the file, as PostScript does.
"""

import io
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

from mmengine import fileio
from PIL import ExifTags, Image

from evaluation.utils.errors import UserError

ADVICE = 'restore it, or skip such images with --skip-bad-images'

# Pillow's limit: 537 MB in 8-bit RGB. The largest images of COCO, ADE20K and ImageNet have fewer than
# 100 million pixels.
MOST_PIXELS = 178_956_970
# No image with at most `MOST_PIXELS` needs more.
MOST_BYTES = 1 << 30
# Pillow warns above half of its limit.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
# Formats that this Pillow reads and whose decoders execute no code from the file.
Image.init()
FORMATS = tuple(
    name
    for name in ('JPEG', 'PNG', 'MPO', 'BMP', 'GIF', 'JPEG2000', 'PPM', 'TIFF', 'WEBP')
    if name in Image.OPEN
)

_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
# Second byte of JPEG markers: start of a scan, fill byte, and markers without a length.
_SCAN, _FILL = 0xDA, 0xFF
_BARE = {0x01, *range(0xD0, 0xD8)}
UPRIGHT = 1
# How viewers transform the stored pixels, by the value of the EXIF tag `Orientation`.
TURNS = {
    2: 'mirrored left to right',
    3: 'rotated by 180 degrees',
    4: 'mirrored top to bottom',
    5: 'transposed',
    6: 'rotated by 90 degrees',
    7: 'transposed along the other diagonal',
    8: 'rotated by 270 degrees',
}
# Orientations that swap height and width.
SIDES_SWAPPED = (5, 6, 7, 8)
TURNED_IMAGES = 'images with an EXIF orientation'


class BadFileError(UserError):
    """A file of the data set cannot be used.

    Args:
        message: error message in one line, with the path of the file.
        kind: description of all files with this problem, in the plural.
    """

    def __init__(self, message: str, kind: str = 'files that cannot be used') -> None:
        super().__init__(message)
        self.kind = kind


def read_whole(path: str, backend_args: dict | None, advice: str = ADVICE) -> bytes:
    """Read an image file.

    Args:
        path: path of the file.
        backend_args: arguments of mmengine's file backend.
        advice: remedy for a file that cannot be used, for error messages.

    Raises:
        BadFileError: the file is missing, unreadable, empty, truncated or corrupt, claims more than
            `MOST_PIXELS`, or has an unsupported format.
    """
    try:
        if backend_args is None:
            check_file(path, advice)
        content = fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        raise BadFileError(f'{path} is missing; {advice}', 'missing files') from None
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise BadFileError(f'{path} cannot be read ({reason}); {advice}', 'unreadable files') from error
    if not content:
        raise BadFileError(f'{path} is empty; {advice}', 'empty files')
    if is_truncated(content):
        message = f'{path} is truncated, as after an interrupted copy; {advice}'
        raise BadFileError(message, 'truncated images')
    if has_broken_chunk(content):
        message = f'{path} is corrupt (a checksum in it is wrong); {advice}'
        raise BadFileError(message, 'corrupt images')
    check_size(content, path, advice)
    return content


def check_file(path: str, advice: str) -> None:
    """Check that a path is a regular file of a plausible size for an image.

    Raises:
        FileNotFoundError: the file does not exist.
        BadFileError: the path is a folder, a pipe or a device, or the file is too large.
    """
    size = os.stat(path).st_size
    if not os.path.isfile(path):
        raise BadFileError(f'{path} is not a file; {advice}', 'paths that are not files')
    if size > MOST_BYTES:
        raise BadFileError(f'{path} has {size:,} bytes, more than any image; {advice}', 'huge files')


def check_size(content: bytes, path: str, advice: str = ADVICE) -> None:
    """Check format and size in the header of an image file, without decoding pixels.

    Raises:
        BadFileError: the format is unsupported, or the image has more than `MOST_PIXELS`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        size = f'more than {MOST_PIXELS / 1e6:.0f} million'
    # Decoders can raise any exception on corrupt data.
    except Exception:
        message = f'{path} cannot be decoded as an image; {advice}'
        raise BadFileError(message, 'undecodable images') from None
    else:
        if width * height <= MOST_PIXELS:
            return
        size = f'{width}x{height}'
    raise BadFileError(
        f'{path} claims to have {size} pixels (the limit is {MOST_PIXELS / 1e6:.0f} million); {advice}',
        'images with too many pixels',
    )


def is_truncated(content: bytes) -> bool:
    """Return whether a JPEG or PNG has no end marker; other formats are left to their decoders.

    Some decoders fill the rest with gray instead of failing. Bytes after the end marker are harmless.
    """
    if content.startswith(_PNG_START):
        return content.rfind(_PNG_END) < 0
    if content.startswith(_JPEG_START):
        # A thumbnail in the header has its own end marker; scan data cannot contain one.
        return content.rfind(_JPEG_END) < _first_scan(content)
    return False


def _first_scan(content: bytes) -> int:
    """Return the offset of a JPEG's first scan, or the file's length (ITU-T T.81, annex B)."""
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


def has_broken_chunk(content: bytes) -> bool:
    """Return whether a checksum in a PNG is wrong; other formats have none.

    Decoders ignore some of them, and a flipped bit would become a different class.
    """
    return any(zlib.crc32(chunk) != stated for chunk, stated in _chunks(content))


def _chunks(content: bytes) -> Iterator[tuple[memoryview, int]]:
    """Yield type and data of each PNG chunk, and its stored checksum."""
    position = len(_PNG_START)
    view = memoryview(content)
    while content.startswith(_PNG_START) and position + 12 <= len(content):
        end = position + 8 + int.from_bytes(view[position : position + 4], 'big')
        kind = bytes(view[position + 4 : position + 8])
        # If a chunk exceeds the file, no checksum is left to compare.
        yield view[position + 4 : end], int.from_bytes(view[end : end + 4], 'big')
        if kind == b'IEND':
            return
        position = end + 4


def orientation_of(content: bytes) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; 1 if it has none."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as header:
            value = header.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    # Decoders can raise any exception on corrupt data.
    except Exception:
        return UPRIGHT
    return value if value in TURNS else UPRIGHT


def check_not_turned(content: bytes, path: str) -> None:
    """Check that decoders return the pixels as stored.

    OpenCV and Pillow always apply the orientation of a TIFF, even when told not to.

    Raises:
        BadFileError: the image is a TIFF with an orientation.
    """
    if content.startswith((b'II*\0', b'MM\0*')) and orientation_of(content) != UPRIGHT:
        raise BadFileError(
            f'{path} is a TIFF with an orientation, which decoders always apply but maps do not have; '
            'save it upright, without that tag',
            TURNED_IMAGES,
        )


def check_upright(content: bytes, path: str) -> None:
    """Check that an image has no EXIF orientation, so that every program reads the same pixels.

    Raises:
        BadFileError: the image has one.
    """
    orientation = orientation_of(content)
    if orientation != UPRIGHT:
        raise BadFileError(
            f'{path} has the EXIF orientation {orientation} ({TURNS[orientation]}), which training '
            'ignores and most viewers apply; save it upright, without that tag',
            TURNED_IMAGES,
        )


def turn_hint(content: bytes) -> str | None:
    """Return the remedy if the orientation swaps height and width, else None."""
    orientation = orientation_of(content)
    if orientation not in SIDES_SWAPPED:
        return None
    return (
        f'the image has the EXIF orientation {orientation}: set color_type of LoadCheckedImage to '
        "'color' if rotated images were annotated, or to 'color_ignore_orientation' if stored pixels "
        'were'
    )


def files_below(folder: Path) -> set[str]:
    """Return the names of all files at any depth, relative to `folder`."""
    return {
        name if parent == str(folder) else os.path.join(os.path.relpath(parent, folder), name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
    }


def visible_files_below(folder: Path) -> set[str]:
    """Return the names of all files at any depth, except names that start with a dot (`._x.png`).

    Folders are listed like this, as in mmengine. Files that are named explicitly can start with a dot.
    """
    return {name for name in files_below(folder) if not os.path.basename(name).startswith('.')}


def leads_out(name: str) -> bool:
    """Return whether a name points outside the folder that it is relative to."""
    return os.path.isabs(name) or os.path.normpath(name).split(os.sep, 1)[0] == os.pardir
