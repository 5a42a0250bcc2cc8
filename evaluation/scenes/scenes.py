"""Generated scenes for the demonstration, with ground truth.

Discs, squares, triangles, stars, rings and crosses lie on a textured ground under a sky. They overlap,
and there is clutter that belongs to no class. Each class has its own hue, but neighboring hues overlap,
so color helps but is not sufficient.

For classification, each scene has a single object, whose class is the label.

A scene depends only on the style and its seed. The seed depends only on the seed of the data set, the
split and the number of the scene. So splits share no scene, and a longer split starts with the scenes
of a shorter one.
"""

import math
import operator
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from evaluation.scenes.scene_shapes import (
    Pose,
    background,
    hsv,
    paint_shape,
    scatter_clutter,
    shape_cover,
)
from evaluation.utils.errors import UserError

OBJECT_CLASSES = ('disc', 'square', 'triangle', 'star', 'ring', 'cross')
SEGMENT_CLASSES = ('ground', 'sky', *OBJECT_CLASSES)
PALETTE = [
    (134, 110, 82),
    (135, 190, 225),
    (214, 39, 40),
    (227, 200, 0),
    (44, 160, 44),
    (23, 190, 207),
    (49, 70, 200),
    (200, 60, 190),
]

# Values of the segmentation map; 0 marks pixels without a class, which training ignores.
UNLABELED, GROUND, SKY, FIRST_SHAPE = 0, 1, 2, 3

PLACEMENT_TRIES = 20


@dataclass(frozen=True)
class SceneStyle:
    """Appearance of scenes.

    Raises:
        UserError: a setting is out of its range.

    Args:
        height: height of a scene in pixels.
        width: width of a scene in pixels.
        classes: names from `OBJECT_CLASSES`, in the order of the labels.
        objects_min: minimum number of objects in a scene that is not empty.
        objects_max: maximum number of objects. An object that cannot be placed in `PLACEMENT_TRIES`
            tries is skipped, so a crowded scene may have fewer objects than the minimum, but at least
            one.
        size_min: minimum diameter of an object's circumscribed circle, as a fraction of the shorter
            side of the scene.
        size_max: maximum diameter, in the same unit.
        turn_max: maximum rotation of an object in either direction, in degrees.
        hue_spread: maximum deviation of an object's hue from the hue of its class, in degrees. The hues
            of the six classes are 60 degrees apart, so their ranges overlap if the spread exceeds 30.
            The hue alone then gives the correct class in 30 / hue_spread of the cases.
        visible_min: minimum visible fraction of an object behind others.
        area_min: minimum visible area of annotated objects, in pixels. Smaller objects are still
            labeled in the segmentation map.
        clutter: number of strokes and blobs that belong to no class.
        noise: standard deviation of the camera's noise, in gray levels of 255.
        empty_probability: fraction of scenes without objects.
        crowd_probability: fraction of the other scenes with an additional patch of many tiny shapes of
            one class, annotated as one crowd.
    """

    height: int = 128
    width: int = 128
    classes: tuple[str, ...] = OBJECT_CLASSES
    objects_min: int = 1
    objects_max: int = 5
    size_min: float = 0.22
    size_max: float = 0.5
    turn_max: float = 25.0
    hue_spread: float = 40.0
    visible_min: float = 0.4
    area_min: int = 40
    clutter: int = 14
    noise: float = 4.0
    empty_probability: float = 0.05
    crowd_probability: float = 0.08

    def __post_init__(self) -> None:
        """Check the settings."""
        lengths = (self.turn_max, self.hue_spread, self.noise, self.clutter, self.area_min)
        fractions = (self.visible_min, self.empty_probability, self.crowd_probability)
        rules = [
            (min(self.height, self.width) >= 32, 'height and width must be 32 pixels or more'),
            (
                0 < len(self.classes) == len(set(self.classes))
                and set(self.classes) <= set(OBJECT_CLASSES),
                f'classes must be among {", ".join(OBJECT_CLASSES)}, each once',
            ),
            (1 <= self.objects_min <= self.objects_max, 'objects: 1 <= min <= max must hold'),
            (0 < self.size_min <= self.size_max <= 1, 'size: 0 < min <= max <= 1 must hold'),
            (
                min(lengths) >= 0,
                'turn_max, hue_spread, noise, clutter and area_min must not be negative',
            ),
            (
                all(0 <= fraction <= 1 for fraction in fractions),
                'visible_min and the probabilities must lie in [0, 1]',
            ),
        ]
        for holds, message in rules:
            if not holds:
                raise UserError(f'scene style: {message}')

    @property
    def has_single_objects(self) -> bool:
        """Whether every scene has exactly one object."""
        numbers = (self.objects_min, self.objects_max, self.empty_probability, self.crowd_probability)
        return numbers == (1, 1, 0, 0)


@dataclass(frozen=True)
class Instance:
    """One object of a scene, or one crowd.

    Args:
        label: index into the style's classes.
        mask: visible pixels, (H, W) bool.
        is_crowd: whether it is a patch of many tiny shapes that are not annotated separately.
    """

    label: int
    mask: np.ndarray
    is_crowd: bool


@dataclass(frozen=True)
class Scene:
    """Picture and ground truth.

    Args:
        image: (H, W, 3) uint8, RGB.
        instances: objects from back to front; their masks are disjoint.
        segmentation: (H, W) uint8: `UNLABELED` on clutter, `GROUND`, `SKY`, and
            `FIRST_SHAPE + label` exactly on the masks of the instances.
    """

    image: np.ndarray
    instances: tuple[Instance, ...]
    segmentation: np.ndarray


@dataclass
class _Thing:
    """Instance that others may still cover."""

    label: int
    poses: list[Pose]
    area: int
    visible: np.ndarray
    is_crowd: bool


def _object_pose(style: SceneStyle, rng: Generator) -> Pose:
    radius = min(style.height, style.width) * rng.uniform(style.size_min, style.size_max) / 2
    inset = 0.6 * radius
    x = rng.uniform(inset, style.width - inset)
    y = rng.uniform(inset, style.height - inset)
    return Pose(x, y, radius, rng.uniform(-style.turn_max, style.turn_max))


def _crowd_poses(style: SceneStyle, rng: Generator) -> list[Pose]:
    """Return the poses of 12 to 24 tiny shapes on a jittered grid; some overlap."""
    pitch = 0.085 * min(style.height, style.width)
    rows, columns = rng.integers(3, 5), rng.integers(4, 7)
    left = rng.uniform(0, style.width - pitch * columns)
    top = rng.uniform(0, style.height - pitch * rows)
    poses = []
    for row, column in np.ndindex(rows, columns):
        x, y = column + rng.uniform(0.32, 0.68), row + rng.uniform(0.32, 0.68)
        turn = rng.uniform(-style.turn_max, style.turn_max)
        poses.append(Pose(left + pitch * x, top + pitch * y, pitch * rng.uniform(0.34, 0.42), turn))
    return poses


def _place(style: SceneStyle, rng: Generator, things: list[_Thing], is_crowd: bool) -> None:
    """Place another thing in front of `things`; give up if every try would cover one too much."""
    label = int(rng.integers(len(style.classes)))
    for _ in range(PLACEMENT_TRIES):
        poses = _crowd_poses(style, rng) if is_crowd else [_object_pose(style, rng)]
        mask = np.zeros((style.height, style.width), bool)
        for pose in poses:
            mask |= shape_cover(style.classes[label], pose, style.height, style.width) > 0.5
        left_visible = [np.count_nonzero(thing.visible & ~mask) for thing in things]
        needed = [style.visible_min * thing.area for thing in things]
        if all(map(operator.ge, left_visible, needed)):
            for thing in things:
                thing.visible &= ~mask
            things.append(_Thing(label, poses, np.count_nonzero(mask), mask, is_crowd))
            return


def _compose(style: SceneStyle, rng: Generator) -> list[_Thing]:
    """Sample the things of a scene, from back to front."""
    things: list[_Thing] = []
    if rng.random() < style.empty_probability:
        return things
    if rng.random() < style.crowd_probability:
        _place(style, rng, things, is_crowd=True)
    for _ in range(rng.integers(style.objects_min, style.objects_max + 1)):
        _place(style, rng, things, is_crowd=False)
    return things


def _paint(style: SceneStyle, rng: Generator, image: np.ndarray, things: list[_Thing]) -> None:
    light_angle = math.radians(rng.uniform(-150, -30))
    light = (math.cos(light_angle), math.sin(light_angle))
    for thing in things:
        shape = style.classes[thing.label]
        own_hue = 360 * OBJECT_CLASSES.index(shape) / len(OBJECT_CLASSES)
        for pose in thing.poses:
            hue = own_hue + rng.uniform(-style.hue_spread, style.hue_spread)
            color = hsv(hue, rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.95))
            paint_shape(rng, image, shape, pose, color, light)


def render_scene(style: SceneStyle, seed: int) -> Scene:
    """Draw the scene of a seed; the same style and seed give the same picture and ground truth."""
    rng = np.random.default_rng(seed)
    image, sky = background(rng, style.height, style.width)
    clutter = scatter_clutter(rng, image, style.clutter)
    things = _compose(style, rng)
    _paint(style, rng, image, things)
    image *= rng.uniform(0.85, 1.1)
    image += rng.normal(0, style.noise / 255, image.shape)

    segmentation = np.where(sky, SKY, GROUND).astype(np.uint8)
    segmentation[clutter] = UNLABELED
    for thing in things:
        segmentation[thing.visible] = FIRST_SHAPE + thing.label
    instances = [Instance(thing.label, thing.visible, thing.is_crowd) for thing in things]
    pixels = np.clip(np.round(255 * image), 0, 255).astype(np.uint8)
    return Scene(pixels, tuple(instances), segmentation)


def scene_seed(seed: int, split: str, number: int) -> int:
    """Return the seed of a scene of a data set, a 64-bit integer."""
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(split.encode()), number))
    return int(sequence.generate_state(1, np.uint64)[0])
