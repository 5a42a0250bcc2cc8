"""Shapes, backgrounds and clutter of the demonstration's scenes.

A shape is a signed distance function: negative inside, positive outside, zero on the outline. The same
function gives the exact mask (distance below zero), the antialiased picture (distance ramped over one
pixel) and a soft shadow (distance ramped over several pixels).

Points are (x, y) in pixels, x to the right and y down. The center of the pixel in row i and column j is
at (j + 0.5, i + 0.5). Colors are RGB in [0, 1].
"""

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
Color = tuple[float, float, float]

# Vertices of clutter are passed to OpenCV as integers, in units of 1/16 pixel.
SUBPIXEL_BITS = 4


def polygon_distance(x: np.ndarray, y: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Return the signed distance of points to a simple polygon, negative inside.

    The magnitude is the distance to the nearest edge. The sign is the parity of the number of edges that
    a ray from the point in direction +x crosses.

    Args:
        x: x of the points, any shape.
        y: y of the points, the same shape.
        vertices: vertices in order along the outline, in either direction, (N, 2).
    """
    squared = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        edge_x, edge_y = bx - ax, by - ay
        from_x, from_y = x - ax, y - ay
        along = (from_x * edge_x + from_y * edge_y) / (edge_x**2 + edge_y**2)
        along = np.clip(along, 0, 1)
        offset_x, offset_y = from_x - along * edge_x, from_y - along * edge_y
        squared = np.minimum(squared, offset_x**2 + offset_y**2)
        side = edge_x * from_y - edge_y * from_x
        inside ^= ((ay <= y) & (y < by) & (side > 0)) | ((by <= y) & (y < ay) & (side < 0))
    return np.where(inside, -1.0, 1.0) * np.sqrt(squared)


def disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to the unit disc."""
    return np.hypot(x, y) - 1


def ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to the ring between the radii 0.5 and 1."""
    return np.abs(np.hypot(x, y) - 0.75) - 0.25


def _polygon(vertices: list[tuple[float, float]]) -> Distance:
    corners = np.array(vertices)
    return lambda x, y: polygon_distance(x, y, corners)


def _on_circles(radii: list[float], first_angle: float) -> list[tuple[float, float]]:
    """Return points at equal angles (degrees, clockwise from +x) and the given radii."""
    angles = [math.radians(first_angle + 360 * i / len(radii)) for i in range(len(radii))]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _cross_corners(half_width: float) -> list[tuple[float, float]]:
    reach = math.sqrt(1 - half_width**2)
    arm = [(half_width, half_width), (reach, half_width), (reach, -half_width)]
    corners = []
    for _ in range(4):
        corners += arm
        arm = [(y, -x) for x, y in arm]
    return corners


# Name -> signed distance function of the shape whose circumscribed circle is the unit circle.
SHAPES: dict[str, Distance] = {
    'disc': disc,
    'square': _polygon(_on_circles([1.0] * 4, 45)),
    'triangle': _polygon(_on_circles([1.0] * 3, -90)),
    'star': _polygon(_on_circles([1.0, 0.45] * 5, -90)),
    'ring': ring,
    'cross': _polygon(_cross_corners(0.34)),
}


@dataclass(frozen=True)
class Pose:
    """Pose of a shape: center (x, y) and radius in pixels, clockwise rotation in degrees."""

    x: float
    y: float
    radius: float
    turn: float = 0.0

    def moved(self, x: float, y: float) -> 'Pose':
        """Return the pose shifted by (x, y) pixels."""
        return Pose(self.x + x, self.y + y, self.radius, self.turn)


def shape_cover(shape: str, pose: Pose, height: int, width: int, softness: float = 1.0) -> np.ndarray:
    """Return how much of each pixel a shape covers, (H, W) float in [0, 1].

    Args:
        shape: a name in `SHAPES`.
        pose: pose of the shape; parts outside the picture are cut off.
        height: height H of the picture.
        width: width W of the picture.
        softness: number of pixels over which the outline fades; 1 is antialiasing, more is blur. At any
            softness, the pixels whose center is inside are covered by at least one half.
    """
    cover = np.zeros((height, width), np.float32)
    reach = pose.radius + softness
    top, bottom = max(0, math.floor(pose.y - reach)), min(height, math.ceil(pose.y + reach))
    left, right = max(0, math.floor(pose.x - reach)), min(width, math.ceil(pose.x + reach))
    if top >= bottom or left >= right:
        return cover
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    cos, sin = math.cos(math.radians(pose.turn)), math.sin(math.radians(pose.turn))
    x, y = (x - pose.x) / pose.radius, (y - pose.y) / pose.radius
    distance = SHAPES[shape](cos * x + sin * y, cos * y - sin * x) * pose.radius
    cover[top:bottom, left:right] = np.clip(0.5 - distance / softness, 0, 1)
    return cover


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Return the RGB color of a hue in degrees and a saturation and value in [0, 1]."""
    return colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value)


def fractal_noise(rng: Generator, height: int, width: int, octaves: int = 4) -> np.ndarray:
    """Return smooth random values around zero, (H, W) float in about [-1, 1].

    Each octave is a coarse random grid that is enlarged to the size of the picture. From one octave to
    the next, the resolution of the grid doubles and its amplitude halves.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        grid = rng.uniform(-1, 1, (3 * 2**octave, 3 * 2**octave)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return total / 2


def blend(image: np.ndarray, cover: np.ndarray, color: np.ndarray | Color) -> None:
    """Blend a color, (3,) or (H, W, 3), into an image, (H, W, 3), in place, by a cover, (H, W)."""
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    if not rows.size:
        return
    # Most covers are small: change only their bounding box.
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    colors = np.broadcast_to(np.asarray(color, np.float32), image.shape)
    image[box] += cover[box][..., None] * (colors[box] - image[box])


def _sky(rng: Generator, height: int, width: int) -> np.ndarray:
    hue = rng.choice([205, 215, 225, 30, 330], p=[0.3, 0.25, 0.25, 0.1, 0.1])
    zenith = np.array(hsv(hue, rng.uniform(0.2, 0.5), rng.uniform(0.55, 0.9)), np.float32)
    haze = np.array(hsv(hue + 10, rng.uniform(0.02, 0.15), rng.uniform(0.8, 0.97)), np.float32)
    depth = np.linspace(0, 1.6, height, dtype=np.float32).clip(0, 1)[:, None, None]
    picture = zenith + (haze - zenith) * np.broadcast_to(depth, (height, width, 1))
    clouds = np.clip(2 * fractal_noise(rng, height, width) - rng.uniform(0, 0.6), 0, 1)
    blend(picture, 0.7 * clouds, (0.96, 0.96, 0.97))
    return picture


def _ground(rng: Generator, height: int, width: int) -> np.ndarray:
    """Return soil with patches of vegetation, which are darker and similar in hue."""
    hue = rng.choice([28, 40, 75, 100, 215], p=[0.25, 0.2, 0.2, 0.25, 0.1])
    saturation, value = rng.uniform(0.1, 0.35), rng.uniform(0.5, 0.75)
    soil = np.array(hsv(hue, saturation, value), np.float32)
    growth_hue, growth_value = hue + rng.uniform(-25, 45), value * rng.uniform(0.55, 0.85)
    growth = np.array(hsv(growth_hue, saturation + 0.1, growth_value), np.float32)
    mix = np.clip(0.5 + 1.5 * fractal_noise(rng, height, width, octaves=5), 0, 1)
    picture = soil + mix[..., None] * (growth - soil)
    grain = rng.normal(0, rng.uniform(0.02, 0.05), (height, width, 1)).astype(np.float32)
    return picture + grain


def background(rng: Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a sky with clouds over a textured ground.

    Returns:
        picture, (H, W, 3) float, and mask of the sky, (H, W) bool. The horizon is between 0.25 H and
        0.6 H, slightly tilted and uneven; every column has sky and ground.
    """
    columns = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    uneven = fractal_noise(rng, 1, width)[0]
    horizon = height * (rng.uniform(0.3, 0.55) + rng.uniform(-0.04, 0.04) * columns)
    horizon = horizon + 0.02 * height * uneven
    depth = np.arange(height, dtype=np.float32)[:, None] + 0.5 - horizon
    picture = _sky(rng, height, width)
    blend(picture, np.clip(0.5 + depth, 0, 1), _ground(rng, height, width))
    return picture, depth < 0


def _stroke(rng: Generator, scale: float) -> np.ndarray:
    """Return points along a curved line around zero, 6 to 20 units of `scale` long, (N, 2)."""
    angle, length = rng.uniform(0, 2 * math.pi), scale * rng.uniform(6, 20)
    along = np.linspace(-0.5, 0.5, 8)
    bend = rng.uniform(-0.5, 0.5) * (along**2 - 0.125)
    cos, sin = math.cos(angle), math.sin(angle)
    return length * np.stack([cos * along - sin * bend, sin * along + cos * bend], axis=1)


def _blob(rng: Generator, scale: float) -> np.ndarray:
    """Return the outline of an irregular patch of 1.5 to 4.5 units of `scale` in radius, (N, 2)."""
    radii = scale * rng.uniform(1.5, 3.5) * rng.uniform(0.6, 1.3, 7)
    return np.array(_on_circles(list(radii), rng.uniform(0, 360))) * (1, rng.uniform(0.5, 1))


def scatter_clutter(rng: Generator, image: np.ndarray, marks: int) -> np.ndarray:
    """Draw short strokes and small irregular blobs of any color on an image, in place.

    Args:
        rng: source of the randomness.
        image: (H, W, 3) float.
        marks: number of strokes and blobs; their size is proportional to the shorter side.

    Returns:
        mask of the clutter, (H, W) bool.
    """
    height, width = image.shape[:2]
    scale = min(height, width) / 128
    clutter = np.zeros((height, width), bool)
    for _ in range(marks):
        is_stroke = rng.random() < 0.5
        points = _stroke(rng, scale) if is_stroke else _blob(rng, scale)
        points = points + rng.uniform((0, 0), (width, height))
        points = np.round(points * 2**SUBPIXEL_BITS).astype(np.int32)[None]
        layer = np.zeros((height, width), np.uint8)
        if is_stroke:
            thickness = max(1, round(scale * rng.uniform(0.6, 2.4)))
            cv2.polylines(layer, points, False, 255, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
        else:
            cv2.fillPoly(layer, points, 255, cv2.LINE_AA, SUBPIXEL_BITS)
        color = hsv(rng.uniform(0, 360), rng.uniform(0.1, 0.9), rng.uniform(0.2, 0.95))
        blend(image, layer / np.float32(255), color)
        clutter |= layer >= 128
    return clutter


def paint_shape(
    rng: Generator,
    image: np.ndarray,
    shape: str,
    pose: Pose,
    color: Color,
    light: tuple[float, float],
) -> None:
    """Paint a shape with its cast shadow, shading, faint stripes and a dark rim, in place.

    Args:
        rng: source of the stripes.
        image: (H, W, 3) float.
        shape: a name in `SHAPES`.
        pose: pose of the shape.
        color: color of the surface.
        light: unit vector (x, y) toward the light; the shadow falls in the opposite direction.
    """
    height, width = image.shape[:2]
    reach = 0.12 * pose.radius
    shadow = pose.moved(-reach * light[0], -reach * light[1])
    fade = max(2.0, 0.3 * pose.radius)
    blend(image, 0.5 * shape_cover(shape, shadow, height, width, fade), (0.05, 0.05, 0.08))

    cover = shape_cover(shape, pose, height, width)
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    x, y = (x - pose.x) / pose.radius, (y - pose.y) / pose.radius
    angle, pitch = rng.uniform(0, math.pi), rng.uniform(6, 18)
    stripes = np.sin(pitch * (math.cos(angle) * x + math.sin(angle) * y))
    brightness = 1 + 0.18 * (light[0] * x + light[1] * y) + rng.uniform(0, 0.12) * stripes
    depth = shape_cover(shape, pose, height, width, softness=5.0) - 0.5
    rim = np.clip(1 - depth / 0.3, 0, 1)
    brightness = brightness * (1 - 0.35 * rim)
    surface = np.asarray(color, np.float32) * brightness[..., None]
    blend(image, cover, np.clip(surface, 0, 1))
