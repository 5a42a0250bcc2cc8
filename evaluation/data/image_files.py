"""Image files: names below a folder, files that are not whole or too large, and EXIF orientation.

An image file is data of unknown origin: it may be a pipe that nobody writes to, claim a size that no
memory holds, or be of a format whose decoder runs what the file says, as PostScript's does.
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

ADVICE = 'restore it, or leave such images out with --skip-bad-images'

# Pillow's limit: 537 MB in colors of 8 bits. The largest images of COCO, ADE20K and ImageNet have
# fewer than 100 million pixels.
MOST_PIXELS = 178_956_970
# No image of so many pixels needs more.
MOST_BYTES = 1 << 30
# Pillow warns from half of them on.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
# Only what decodes to pixels without running anything, of what this Pillow reads.
Image.init()
FORMATS = tuple(
    name
    for name in ('JPEG', 'PNG', 'MPO', 'BMP', 'GIF', 'JPEG2000', 'PPM', 'TIFF', 'WEBP')
    if name in Image.OPEN
)

_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
# Second byte of markers of a JPEG: start of a scan, and those that no length follows.
_SCAN, _FILL = 0xDA, 0xFF
_BARE = {0x01, *range(0xD0, 0xD8)}
UPRIGHT = 1
# By the value of EXIF's tag `Orientation`: how viewers turn the stored pixels.
TURNS = {
    2: 'mirrored left to right',
    3: 'turned by 180 degrees',
    4: 'mirrored top to bottom',
    5: 'transposed',
    6: 'turned by 90 degrees',
    7: 'transposed along the other diagonal',
    8: 'turned by 270 degrees',
}
# Of these, height and width change places.
SIDES_SWAPPED = (5, 6, 7, 8)
TURNED_IMAGES = 'images with an EXIF orientation'


class BadFileError(UserError):
    """A file of the data set cannot be used.

    Args:
        message: one line that names the file.
        kind: what is wrong with the file, in words for a list.
    """

    def __init__(self, message: str, kind: str = 'files that cannot be used') -> None:
        super().__init__(message)
        self.kind = kind


def read_whole(path: str, backend_args: dict | None, advice: str = ADVICE) -> bytes:
    """Read an image file.

    Args:
        path: of the file.
        backend_args: of mmengine's file client.
        advice: what to do about a file that cannot be used, for the message.

    Raises:
        BadFileError: it is missing, cannot be read, is empty, ends early, was changed on its way, claims
            more pixels than any image of these data sets has, or is of a format that is not read.
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
        message = f'{path} ends early, as an interrupted copy does; {advice}'
        raise BadFileError(message, 'truncated images')
    if has_broken_chunk(content):
        message = f'{path} was changed on its way: a checksum in it is wrong; {advice}'
        raise BadFileError(message, 'damaged images')
    check_size(content, path, advice)
    return content


def check_file(path: str, advice: str) -> None:
    """Check that a path is a file of a size that an image can have.

    Raises:
        FileNotFoundError: it is not there.
        BadFileError: it is a folder, a pipe or a device, or too large.
    """
    size = os.stat(path).st_size
    if not os.path.isfile(path):
        raise BadFileError(f'{path} is not a file; {advice}', 'what is not a file')
    if size > MOST_BYTES:
        raise BadFileError(f'{path} has {size:,} bytes, more than any image; {advice}', 'huge files')


def check_size(content: bytes, path: str, advice: str = ADVICE) -> None:
    """Check format and size in the header of an image file; no pixel is decoded.

    Raises:
        BadFileError: it is of no format that is read, or of more than `MOST_PIXELS`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        size = f'more than {MOST_PIXELS / 1e6:.0f} million'
    # Decoders raise whatever their arithmetic runs into.
    except Exception:
        message = f'{path} is not an image that can be decoded; {advice}'
        raise BadFileError(message, 'undecodable images') from None
    else:
        if width * height <= MOST_PIXELS:
            return
        size = f'{width}x{height}'
    raise BadFileError(
        f'{path} claims to have {size} pixels, more than {MOST_PIXELS / 1e6:.0f} million are not read; '
        f'{advice}',
        'images of too many pixels',
    )


def is_truncated(content: bytes) -> bool:
    """Return whether a JPEG or PNG lacks its end; other formats are left to their decoder.

    Some decoders fill the rest with grey instead of failing. Bytes after the end do no harm.
    """
    if content.startswith(_PNG_START):
        return content.rfind(_PNG_END) < 0
    if content.startswith(_JPEG_START):
        # A thumbnail in the header has an end of its own; the codes of a scan cannot look like one.
        return content.rfind(_JPEG_END) < _first_scan(content)
    return False


def _first_scan(content: bytes) -> int:
    """Return where the first scan of a JPEG starts, else its length (ITU-T T.81, annex B)."""
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

    Decoders skip over some of them, and a bit that was lost would become another class.
    """
    return any(zlib.crc32(chunk) != stated for chunk, stated in _chunks(content))


def _chunks(content: bytes) -> Iterator[tuple[memoryview, int]]:
    """Yield type and data of each chunk of a PNG, and its stated checksum."""
    position = len(_PNG_START)
    view = memoryview(content)
    while content.startswith(_PNG_START) and position + 12 <= len(content):
        end = position + 8 + int.from_bytes(view[position : position + 4], 'big')
        kind = bytes(view[position + 4 : position + 8])
        # Of a chunk that is longer than the file nothing is left to compare.
        yield view[position + 4 : end], int.from_bytes(view[end : end + 4], 'big')
        if kind == b'IEND':
            return
        position = end + 4


def orientation_of(content: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, that an image file states; 1 where it states none."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as header:
            value = header.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    # Decoders raise whatever their arithmetic runs into.
    except Exception:
        return UPRIGHT
    return value if value in TURNS else UPRIGHT


def check_not_turned(content: bytes, path: str) -> None:
    """Check that decoders can leave an image as the file stores it.

    OpenCV and Pillow turn a TIFF by its orientation whatever they are asked for.

    Raises:
        BadFileError: the image is a TIFF that states an orientation.
    """
    if content.startswith((b'II*\0', b'MM\0*')) and orientation_of(content) != UPRIGHT:
        raise BadFileError(
            f'{path} is a TIFF with an orientation, which decoders always apply and maps do not have; '
            'save it upright, without that tag',
            TURNED_IMAGES,
        )


def check_upright(content: bytes, path: str) -> None:
    """Check that an image states no orientation, so that it means the same to every program.

    Raises:
        BadFileError: it states one.
    """
    orientation = orientation_of(content)
    if orientation != UPRIGHT:
        raise BadFileError(
            f'{path} has the EXIF orientation {orientation} ({TURNS[orientation]}), which trainings '
            'ignore and most viewers apply; save it upright, without that tag',
            TURNED_IMAGES,
        )


def turn_hint(content: bytes) -> str | None:
    """Say what to do where height and width are swapped because of the orientation; None elsewhere."""
    orientation = orientation_of(content)
    if orientation not in SIDES_SWAPPED:
        return None
    return (
        f'the image has the EXIF orientation {orientation}: give LoadCheckedImage '
        "color_type='color' for annotations of turned images, 'color_ignore_orientation' for those of "
        'stored pixels'
    )


def files_below(folder: Path) -> set[str]:
    """Return the names of all files at any depth, relative to `folder`."""
    return {
        name if parent == str(folder) else os.path.join(os.path.relpath(parent, folder), name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
    }


def visible_files_below(folder: Path) -> set[str]:
    """Return the same without names that start with a dot, such as `._x.png` of other systems.

    What is in a folder is found so, by mmengine as well; what a file names is there or not.
    """
    return {name for name in files_below(folder) if not os.path.basename(name).startswith('.')}


def leads_out(name: str) -> bool:
    """Return whether a name leads out of the folder that it is relative to."""
    return os.path.isabs(name) or os.path.normpath(name).split(os.sep, 1)[0] == os.pardir
