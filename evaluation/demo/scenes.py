"""Generated scenes for the demonstration, with their truth.

Discs, squares, triangles, stars, rings and crosses lie on a textured ground under a sky, partly in
front of each other, among clutter that belongs to no class. Each class has a hue of its own, but
neighboring hues overlap, so that color helps and does not suffice.

For classification each scene has a single object, whose class is the picture's.

A scene depends on nothing but the style and its own seed, and that seed on nothing but the seed of
the data set, the split and the scene's number: splits share no scene, and a longer split begins
with the scenes of a shorter one.
"""

import math
import operator
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from evaluation.demo.scene_shapes import (
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

# Values of the segmentation map; 0 is what no class names, which training ignores.
UNLABELED, GROUND, SKY, FIRST_SHAPE = 0, 1, 2, 3

PLACEMENT_TRIES = 20


@dataclass(frozen=True)
class SceneStyle:
    """What scenes look like.

    Raises:
        UserError: a setting is out of its range.

    Args:
        height: of a scene, pixels.
        width: of a scene, pixels.
        classes: names out of `OBJECT_CLASSES`; their order is the order of the labels.
        objects_min: least number of objects in a scene that is not empty.
        objects_max: greatest number. An object that finds no place in `PLACEMENT_TRIES` tries is
            left out, so that crowded settings may give fewer; never none.
        size_min: smallest diameter of an object's circumscribed circle, as a fraction of the
            shorter side of the scene.
        size_max: largest such diameter.
        turn_max: greatest turn of an object either way, degrees.
        hue_spread: greatest deviation of an object's hue from its class's, degrees. The hues of the
            six classes are 60 degrees apart, so ranges overlap from a spread of 30 on, and who
            knows the hue alone names the class correctly in 30 / hue_spread of the cases.
        visible_min: fraction of an object that the objects in front of it must leave visible.
        area_min: visible area under which an object is not annotated, pixels. Its pixels in the
            segmentation map are labeled all the same.
        clutter: number of strokes and blobs that belong to no class.
        noise: standard deviation of the noise of the camera, gray levels of 255.
        empty_probability: share of the scenes that have no object.
        crowd_probability: share of the other scenes that have, beside the objects, a patch of many
            tiny shapes of one class, annotated as one crowd.
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
        """Refuse settings that no scene can have."""
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
        mask: its visible pixels, (H, W) bool.
        is_crowd: a patch of many tiny shapes, told apart by nobody.
    """

    label: int
    mask: np.ndarray
    is_crowd: bool


@dataclass(frozen=True)
class Scene:
    """A picture and its truth.

    Args:
        image: (H, W, 3) uint8, RGB.
        instances: from back to front; their masks are disjoint.
        segmentation: (H, W) uint8: `UNLABELED` on clutter, `GROUND`, `SKY`, and
            `FIRST_SHAPE + label` exactly on the masks of the instances.
    """

    image: np.ndarray
    instances: tuple[Instance, ...]
    segmentation: np.ndarray


@dataclass
class _Thing:
    """An instance while others are still being laid in front of it."""

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
    """Return the places of 12 to 24 tiny shapes on a disturbed grid, some overlapping."""
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
    """Lay one more thing in front of `things`, unless every place tried hides one too much."""
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
    """Choose the things of a scene, from back to front."""
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
    """Draw the scene of a seed: the same picture and truth for the same style and seed."""
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
    """Return the seed of one scene of a data set, a 64-bit integer."""
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(split.encode()), number))
    return int(sequence.generate_state(1, np.uint64)[0])
