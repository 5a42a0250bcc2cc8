"""Seeded damage to image files and to segmentation maps."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.faults.json_mutations import (
    cut_short,
    drop_part,
    empty,
    flip_bits,
    insert_noise,
    zero_part,
)

BYTES = (cut_short, cut_short, flip_bits, flip_bits, drop_part, zero_part, insert_noise, empty)
FORMATS = ('png', 'gif', 'bmp', 'tiff', 'webp', 'ppm', 'jpeg')
MODES = ('L', 'P', '1', 'RGB', 'RGBA', 'LA', 'CMYK', 'I;16', 'I', 'F', 'YCbCr')
POSTSCRIPT = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n'
TEXTS = (
    b'<html>404 Not Found</html>',
    POSTSCRIPT,
    b'version https://git-lfs.github.com/spec/v1\n',
    b'\0',
)


def mutate_image(file: Path, random: Random) -> str:
    """Damage or replace an image file; return a description of the damage."""
    kind = random.choice((_bytes, _bytes, _bytes, _other_format, _other_mode, _resized, _no_image))
    return kind(file, random)


def mutate_map(file: Path, random: Random) -> str:
    """Damage or replace a segmentation map; return a description of the damage."""
    kinds = (_bytes, _bytes, _bytes, _other_format, _other_mode, _resized, _no_image, _labels, _few_bits)
    return random.choice(kinds)(file, random)


def huge_png(random: Random) -> bytes:
    """Return a small PNG file that claims to have up to 2^31 pixels per side."""
    sides = [random.choice((30_000, 60_000, 2**31 - 1)) for _ in range(2)]
    return png(sides, 8, random.choice((0, 2, 3)), bytes(100))


def png(sides: list[int], bits: int, color_type: int, pixels: bytes) -> bytes:
    """Return a PNG file of pixel rows that include their filter bytes."""
    header = struct.pack('>IIBBBBB', *sides, bits, color_type, 0, 0, 0)
    palette = [(b'PLTE', bytes(range(48)))] if color_type == 3 else []
    chunks = [(b'IHDR', header), *palette, (b'IDAT', zlib.compress(pixels)), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _bytes(file: Path, random: Random) -> str:
    content, what = random.choice(BYTES)(file.read_bytes(), random)
    file.write_bytes(content)
    return what


def _saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _other_format(file: Path, random: Random) -> str:
    kind = random.choice(FORMATS)
    with Image.open(file) as image:
        file.write_bytes(_saved(image.convert('RGB') if kind != 'png' else image, kind))
    return f'a {kind} under this name'


def _other_mode(file: Path, random: Random) -> str:
    mode = random.choice(MODES)
    with Image.open(file) as image:
        gray = image.convert('L')
        changed = Image.fromarray(np.asarray(gray, np.uint16)) if mode == 'I;16' else gray.convert(mode)
    kind = 'jpeg' if mode in ('CMYK', 'YCbCr') else 'tiff' if mode in ('F', 'I') else 'png'
    file.write_bytes(_saved(changed, kind))
    return f'of mode {mode}'


def _resized(file: Path, random: Random) -> str:
    size = random.choice(((1, 1), (64, 63), (63, 64), (128, 128), (2000, 1), (64, 32)))
    kind = 'png' if file.suffix == '.png' else 'jpeg'
    with Image.open(file) as image:
        file.write_bytes(_saved(image.resize(size), kind))
    return f'of {size[0]}x{size[1]} pixels'


def _no_image(file: Path, random: Random) -> str:
    kind = random.choice(('text', 'missing', 'pipe', 'folder', 'loop', 'device', 'huge', 'sparse'))
    if kind in ('text', 'huge'):
        file.write_bytes(random.choice(TEXTS) if kind == 'text' else huge_png(random))
        return f'no image but {kind}'
    file.unlink()
    make: dict[str, Callable[[], object]] = {
        'missing': lambda: None,
        'pipe': lambda: os.mkfifo(file),
        'folder': file.mkdir,
        'loop': lambda: file.symlink_to(file.name),
        'device': lambda: file.symlink_to('/dev/zero'),
        'sparse': lambda: _sparse(file),
    }
    make[kind]()
    return f'no image but {kind}'


def _sparse(file: Path) -> None:
    with open(file, 'wb') as content:
        content.truncate(1 << 36)


def _labels(file: Path, random: Random) -> str:
    values = np.full((64, 64), random.choice((0, 1, 8, 9, 128, 254, 255)), np.uint8)
    Image.fromarray(values).save(file)
    return f'all of label {values[0, 0]}'


def _few_bits(file: Path, random: Random) -> str:
    bits, color_type = random.choice(((1, 0), (2, 0), (4, 0), (1, 3), (2, 3), (4, 3)))
    row = b'\0' + bytes([0b01010101]) * (64 * bits // 8)
    file.write_bytes(png([64, 64], bits, color_type, row * 64))
    return f'of {bits} bits a pixel, color type {color_type}'
