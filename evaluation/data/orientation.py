"""EXIF orientation: how a file says that its image is turned, beside the pixels that it stores."""

import io

from PIL import ExifTags, Image

from evaluation.data.image_files import FORMATS, BadFileError

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
