"""Data set of four classes that differ in color, in both ImageNet layouts."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ('cat', 'dog', 'eel', 'fox')
COLORS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60))
# Number of images per class.
COUNTS = {'train': 8, 'val': 3}


def write_folders(root: Path, counts: dict[str, int] = COUNTS) -> Path:
    """Write `<split>/<class>/<number>.jpg` in several sizes."""
    generator = np.random.default_rng(0)
    for split, count in counts.items():
        for name, color in zip(CLASSES, COLORS, strict=True):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(-50, 50, (40 + 6 * number, 56, 3))
                pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f'{number}.jpg')
    return root


def write_lists(root: Path) -> Path:
    """Write the same images with one folder per split, and `meta/<split>.txt`."""
    write_folders(root)
    (root / 'meta').mkdir()
    for split, count in COUNTS.items():
        lines = []
        for label, name in enumerate(CLASSES):
            for number in range(count):
                flat = f'{split}_{name} {number}.JPEG'
                (root / split / name / f'{number}.jpg').rename(root / split / flat)
                lines.append(f'{flat} {label}')
            (root / split / name).rmdir()
        (root / 'meta' / f'{split}.txt').write_text('\n'.join(lines) + '\n')
    return root
