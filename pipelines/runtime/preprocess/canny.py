"""Edges of a picture, white on black, as ControlNets learned them.

Canny 1986, "A Computational Approach to Edge Detection", in the form that the ControlNets of Zhang et al. 2023 were
trained with: OpenCV's, without blur, at 100 and 200, the steepest of the three colours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

LOW, HIGH = 100, 200
# OpenCV's fixed-point tangent of 22.5 degrees: which neighbours lie across an edge.
_SHIFT, _TAN = 15, 13573
_SMOOTH, _SLOPE = (1, 2, 1), (-1, 0, 1)


def canny(picture: Image.Image, low: int = LOW, high: int = HIGH) -> Image.Image:
    """RGB of the same size. What is steeper than `high` is an edge, and what touches one and is steeper than `low`."""
    across, down = _slopes(np.asarray(picture.convert("RGB")).astype(np.int32))
    steep = np.abs(across) + np.abs(down)
    edges = _connected(_ridges(across, down, steep, low), steep > high)
    return Image.fromarray((edges * np.uint8(255)), "L").convert("RGB")


def _slopes(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sobel's two, each [height, width], of the colour with the steepest at its place. `rgb` [height, width, 3]."""
    across = _sobel(rgb, along=1)
    down = _sobel(rgb, along=0)
    steepest = np.argmax(np.abs(across) + np.abs(down), axis=2, keepdims=True)
    return _taken(across, steepest), _taken(down, steepest)


def _taken(slopes: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.take_along_axis(slopes, colour, axis=2)[..., 0]


def _sobel(rgb: np.ndarray, along: int) -> np.ndarray:
    slope = ndimage.correlate1d(rgb, _SLOPE, axis=along, mode="nearest")
    return ndimage.correlate1d(slope, _SMOOTH, axis=1 - along, mode="nearest")


def _ridges(across: np.ndarray, down: np.ndarray, steep: np.ndarray, low: int) -> np.ndarray:
    """Where it is steeper than `low` and than both neighbours across the edge; outside the picture it is flat."""
    near = np.pad(steep, 1)
    height, width = steep.shape

    def beside(y: int, x: int) -> np.ndarray:
        return near[1 + y : 1 + y + height, 1 + x : 1 + x + width]

    x, y = np.abs(across).astype(np.int64), np.abs(down).astype(np.int64) << _SHIFT
    flat, upright = x * _TAN, x * _TAN + (x << (_SHIFT + 1))
    level = (steep > beside(0, -1)) & (steep >= beside(0, 1))
    plumb = (steep > beside(-1, 0)) & (steep >= beside(1, 0))
    falling = (steep > beside(-1, -1)) & (steep > beside(1, 1))
    rising = (steep > beside(-1, 1)) & (steep > beside(1, -1))
    slanted = np.where((across < 0) ^ (down < 0), rising, falling)
    return (steep > low) & np.where(y < flat, level, np.where(y > upright, plumb, slanted))


def _connected(ridges: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """The ridges that hang together with a sure one, corners included."""
    found: Any = ndimage.label(ridges, structure=np.ones((3, 3), dtype=int))
    labels, count = found
    kept = np.zeros(count + 1, dtype=bool)
    kept[np.unique(labels[ridges & sure])] = True
    kept[0] = False
    return kept[labels]
