"""Text on pictures, drawn with OpenCV's strokes, enlarged and averaged down: even at ten pixels."""

import math

import cv2
import numpy as np

from evaluation.engine.drawing.pixels import Colour, mix

FONT = cv2.FONT_HERSHEY_SIMPLEX
# Height of the font's capitals at OpenCV's scale 1, pixels.
FONT_CAPITAL = 21
TEXT_ENLARGEMENT = 4
INK: Colour = (32, 32, 32)


def text_cover(text: str, capital: int) -> np.ndarray:
    """Return how much of each pixel a line of text covers, (H, W) in [0, 1].

    Args:
        text: printable ASCII; what the font lacks comes out as question marks.
        capital: height of capitals, pixels. Every line is 1.7 times as high.
    """
    size = TEXT_ENLARGEMENT * capital
    stroke = max(1, round(0.125 * size))
    scale = (size - stroke) / FONT_CAPITAL
    (width, _), _ = cv2.getTextSize(text, FONT, scale, stroke)
    canvas_width = math.ceil((width + stroke) / TEXT_ENLARGEMENT) * TEXT_ENLARGEMENT
    canvas = np.zeros((TEXT_ENLARGEMENT * round(1.7 * capital), canvas_width), np.uint8)
    baseline = TEXT_ENLARGEMENT * round(1.25 * capital) - stroke // 2
    cv2.putText(canvas, text, (stroke // 2, baseline), FONT, scale, 255, stroke, cv2.LINE_AA)
    small = (canvas.shape[1] // TEXT_ENLARGEMENT, canvas.shape[0] // TEXT_ENLARGEMENT)
    return cv2.resize(canvas, small, interpolation=cv2.INTER_AREA) / 255


def ink_text(sheet: np.ndarray, cover: np.ndarray, left: int, top: int, ink: Colour = INK) -> None:
    """Draw text, (H, W) as `_text_cover` gives it, onto `sheet` in place."""
    place = sheet[top : top + cover.shape[0], left : left + cover.shape[1]]
    place[:] = mix(place, ink, cover[..., None])


def contrast(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour (ITU-R BT.601 luma)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
