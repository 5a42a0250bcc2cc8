"""Boxes from the XML files of Pascal VOC, which LabelImg and other tools write, as COCO annotations.

The XML is untrusted. Entities can expand to gigabytes or read other files, so a file that declares a
document type, where entities are defined, is refused before it is parsed. VOC's files have none.
"""

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from evaluation.data.coco_faults import quoted
from evaluation.data.dataset_folder import ImageFinder
from evaluation.utils.errors import UserError

MOST_BYTES = 16 << 20
_SIDES = ('xmin', 'ymin', 'xmax', 'ymax')
_WANTED = 'give an annotation of Pascal VOC with filename, size and objects'


def read_voc(root: Path, files: list[str], finder: ImageFinder) -> dict:
    """Read XML files as one COCO content, without masks.

    Args:
        root: the data set folder.
        files: paths of the XML files relative to it.
        finder: finder of their images.

    Returns:
        Content with `images`, whose `file_name` is relative to `root`, `annotations` and `categories`,
        in the order of their names. `difficult` objects become crowds: evaluation and training ignore
        them.

    Raises:
        UserError: a file is malformed, unsafe, or of a missing image.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    for file in files:
        tree = parse_xml(root / file)
        if tree.tag != 'annotation':
            tag = quoted(tree.tag)
            raise UserError(f'{root / file} has the element {tag}, not annotation; {_WANTED}')
        name = _text(tree, 'filename', root / file)
        path = finder.find(name, file)
        if path is None:
            raise UserError(f'{root / file} is for the image {quoted(name)}, which is missing; add it')
        width, height = (_number(tree, f'size/{side}', root / file) for side in ('width', 'height'))
        if min(width, height) < 1:
            raise UserError(f'{root / file} has the size {width:g}x{height:g}; give that of its image')
        images.append(
            {'id': len(images) + 1, 'file_name': path, 'height': int(height), 'width': int(width)}
        )
        for entry in tree.findall('object'):
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': len(images),
                    'category_id': _text(entry, 'name', root / file),
                    'bbox': _box(entry, (width, height), root / file),
                    'iscrowd': int((entry.findtext('difficult') or '0').strip() == '1'),
                }
            )
    names = sorted({annotation['category_id'] for annotation in annotations})
    categories = [{'id': name, 'name': name} for name in names]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def parse_xml(file: Path) -> ElementTree.Element:
    """Parse an XML file that declares no document type.

    Raises:
        UserError: the file cannot be read, is not XML, or declares a document type.
    """
    try:
        if not file.is_file() or file.stat().st_size > MOST_BYTES:
            raise UserError(f'{file} is not an XML file of at most {MOST_BYTES >> 20} MB; {_WANTED}')
        content = file.read_bytes()
        checker = expat.ParserCreate()
        checker.StartDoctypeDeclHandler = lambda *_: _refuse_document_type(file)
        checker.Parse(content, True)
        return ElementTree.fromstring(content)
    except OSError as error:
        raise UserError(f'{file} cannot be read ({error.strerror}); {_WANTED}') from error
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f'{file} is not valid XML ({error}); {_WANTED}') from error


def _refuse_document_type(file: Path) -> None:
    raise UserError(f'{file} declares a document type, which can be unsafe; remove the DOCTYPE')


def _text(element: ElementTree.Element, key: str, file: Path) -> str:
    text = (element.findtext(key) or '').strip()
    if not text:
        raise UserError(f'{file} has no {key} in its element {element.tag}; {_WANTED}')
    return text


def _number(element: ElementTree.Element, key: str, file: Path) -> float:
    text = _text(element, key, file)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f'{file} has the {key} {quoted(text)}, not a number; correct it')
    return number


def _box(entry: ElementTree.Element, size: tuple[float, float], file: Path) -> list[Any]:
    """Return left, top, width and height of an object, clipped to its image.

    VOC counts pixels from 1 and includes the last one.
    """
    left, top, right, bottom = (_number(entry, f'bndbox/{side}', file) for side in _SIDES)
    left, top = max(left - 1, 0), max(top - 1, 0)
    return [left, top, min(right, size[0]) - left, min(bottom, size[1]) - top]
