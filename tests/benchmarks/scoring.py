"""Reads a picture's pixels: background, shapes, colours, places. Knows nothing of the prompt that made it.

`Reading` is compared with what a `Drawing` asks for by `judge`. No learned model: colours are nearest in CIE Lab to the
palette, shapes nearest by overlap to the outlines of the data program.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from assets.demo.recipes.drawings import COLORS, PALETTE, SHAPES, SIZE, Drawing, unit_outline

_SMALLEST = 0.006  # of the sheet; the smallest drawing of the data program covers 0.017
_STENCIL = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One connected region that is not background; x, y is its centre in 0..1, area its share of the sheet."""

    color: str
    shape: str
    x: float
    y: float
    area: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    background: str
    blobs: tuple[Blob, ...]


def _lab(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb.astype(np.float32).reshape(-1, 1, 3) / 255, cv2.COLOR_RGB2LAB).reshape(rgb.shape)


@cache
def _palette_lab() -> np.ndarray:
    return _lab(np.array([PALETTE[name] for name in COLORS], np.float32))


def nearest_color(pixels: np.ndarray) -> str:
    """`pixels` [n, 3] in 0..255; the palette's name of their median."""
    median = _lab(np.median(pixels, 0)[None])
    return COLORS[int(np.argmin(np.linalg.norm(_palette_lab() - median, axis=1)))]


def _stencil(contour: np.ndarray, angle: float = 0.0) -> np.ndarray:
    """A polygon [n, 2], moved to its centre and scaled to unit area, as a bool [64, 64] mask."""
    moments = cv2.moments(contour.astype(np.float32))
    area = max(moments["m00"], 1e-6)
    points = (contour - (moments["m10"] / area, moments["m01"] / area)) / np.sqrt(area)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    canvas = np.zeros((_STENCIL, _STENCIL), np.uint8)
    cv2.fillPoly(canvas, [np.round(points @ turn.T * 34 + _STENCIL / 2).astype(np.int32)], 1)
    return canvas.astype(bool)


@cache
def _templates() -> tuple[tuple[str, np.ndarray], ...]:
    angles = (-0.1, 0.0, 0.1)
    return tuple((s, _stencil(np.array(unit_outline(s), np.float32), a)) for s in SHAPES for a in angles)


def _shape_of(mask: np.ndarray) -> str:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea).reshape(-1, 2).astype(np.float32)
    seen = _stencil(contour)
    overlaps = {(i, name): (seen & t).sum() / (seen | t).sum() for i, (name, t) in enumerate(_templates())}
    return max(overlaps, key=lambda key: overlaps[key])[1]


def _rim(picture: np.ndarray) -> np.ndarray:
    """The pixels [n, 3] along the four sides."""
    return np.concatenate([picture[:6].reshape(-1, 3), picture[-6:].reshape(-1, 3),
                           picture[:, :6].reshape(-1, 3), picture[:, -6:].reshape(-1, 3)])  # fmt: skip


def subject(picture: np.ndarray) -> np.ndarray:
    """uint8 [height, width], 1 where `picture` uint8 [height, width, 3] has another colour than at its rim."""
    ground = _lab(np.median(_rim(picture), 0)[None].astype(np.float32))[0]
    other = np.linalg.norm(_lab(picture) - ground, axis=2) > 16
    return cv2.morphologyEx(other.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))


def read(picture: np.ndarray) -> Reading:
    """`picture` uint8 [height, width, 3]; blobs come largest first."""
    if picture.shape[:2] != (SIZE, SIZE):
        picture = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    rim, other = _rim(picture), subject(picture)
    count, labels, stats, centers = cv2.connectedComponentsWithStats(other, connectivity=4)
    blobs = []
    for i in range(1, count):
        share = stats[i, cv2.CC_STAT_AREA] / other.size
        if share >= _SMALLEST:
            mask = labels == i
            core = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
            color = nearest_color(picture[core if core.any() else mask])
            x, y = centers[i] / SIZE
            blobs.append(Blob(color=color, shape=_shape_of(mask), x=float(x), y=float(y), area=float(share)))
    return Reading(background=nearest_color(rim), blobs=tuple(sorted(blobs, key=lambda b: -b.area)))


def subject_hue(picture: np.ndarray) -> float | None:
    """Degrees (0 red, 120 green) of the largest thing on `picture` uint8 [h, w, 3]; None without one or a colour."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(subject(picture), connectivity=4)
    if count < 2:
        return None
    mask = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    core = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    color = np.median(picture[core if core.any() else mask], 0).astype(np.float32) / 255
    hue, saturation, _ = cv2.cvtColor(color.reshape(1, 1, 3), cv2.COLOR_RGB2HSV)[0, 0]
    return float(hue) if saturation >= 0.2 else None


def _third(value: float, names: tuple[str, str, str]) -> str:
    return names[0] if value < 98 / 256 else names[2] if value > 158 / 256 else names[1]


def _pair(blobs: tuple[Blob, ...], relation: str) -> tuple[Blob, Blob] | None:
    """(first, second) of a relation such as 'first above second', or None when no two blobs stand so."""
    if len(blobs) < 2:
        return None
    a, b = blobs[:2]
    along, across = (abs(a.y - b.y), abs(a.x - b.x)) if relation in ("above", "below") else (
        abs(a.x - b.x), abs(a.y - b.y))  # fmt: skip
    if along < 0.15 or along < across:
        return None
    low = min((a, b), key=lambda blob: blob.y if relation in ("above", "below") else blob.x)
    high = b if low is a else a
    return (low, high) if relation in ("above", "left of") else (high, low)


def _matches(pair: tuple[Blob, ...], drawing: Drawing) -> int:
    """How much of (first, second) is as asked. Place is judged apart from colour: either tells which one it is."""
    first, second = pair
    return sum((first.color == drawing.color, first.shape == drawing.shape,
                second.color == drawing.other_color, second.shape == drawing.other_shape))  # fmt: skip


def judge(drawing: Drawing, reading: Reading) -> dict[str, bool]:
    """What the picture got right of what `drawing` asks: keys among background, color, shape, position, count."""
    right = {"background": reading.background == drawing.background}
    blobs = reading.blobs
    if drawing.kind == "count":
        right["count"] = len(blobs) == drawing.count
        right["color"] = bool(blobs) and all(b.color == drawing.color for b in blobs)
        right["shape"] = bool(blobs) and all(b.shape == drawing.shape for b in blobs)
    elif drawing.kind == "pair":
        pair = _pair(blobs, drawing.relation)
        wanted = {(drawing.color, drawing.shape), (drawing.other_color, drawing.other_shape)}
        seen = {(b.color, b.shape) for b in blobs[:2]}
        right["position"] = pair is not None and _matches(pair, drawing) > _matches(pair[::-1], drawing)
        right["color"] = {c for c, _ in wanted} == {c for c, _ in seen}
        right["shape"] = wanted == seen
    else:
        right["color"] = bool(blobs) and blobs[0].color == drawing.color
        right["shape"] = bool(blobs) and blobs[0].shape == drawing.shape
        if (drawing.column, drawing.row) != ("middle", "middle"):
            place = blobs and (_third(blobs[0].x, ("left", "middle", "right")),
                               _third(blobs[0].y, ("top", "middle", "bottom")))  # fmt: skip
            right["position"] = place == (drawing.column, drawing.row)
    return right
