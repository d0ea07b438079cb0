"""How far away everything on a drawing is: what a depth ControlNet is shown. White is near, black is far.

The drawings are flat, but they are painted from back to front, and that order is their depth. Shapes hang before a
wall, each a little before the one that was painted first. A scene's sky is as far as can be, sun and stars too; its
ground comes nearer from the horizon to the lower rim, and the thing is as near as the ground that it stands on. How
near the wall and the shapes are is drawn by lot, because a depth map tells what is before what, and no metres.
"""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

from assets.demo.recipes.drawings import (
    PAINTERS,
    SCALE,
    SIZE,
    STROKE,
    Drawing,
    Pen,
    outlines,
    scene_places,
)

WALL, SHAPE = (16, 72), (140, 180)  # the range of grey of the wall, and of the shape that was painted first
BEFORE, PART = 25, 4  # how much nearer the next shape is, and the next part of a thing
HORIZON, RIM = 60, 230  # the grey of a scene's ground at its two ends
_FOOT = {"house": 206, "tree": 214, "boat": 204, "flower": 214, "mountain": 200, "car": 212}  # row of pixels


class _DepthPen(Pen):
    """Paints grey instead of colour, and every part a little nearer than the one before."""

    def __init__(self, image: Image.Image, dx: float, dy: float, level: float) -> None:
        super().__init__(image, dx, dy, 1.0)
        self._level = level

    def _ink(self, color: tuple[int, int, int]) -> tuple[int, int, int]:
        level = round(self._level)
        self._level += PART
        return level, level, level


def depth_of(drawing: Drawing, seed: int) -> Image.Image:
    """RGB picture of 256 x 256, grey: the depth of `render(drawing, seed)`."""
    painted = _scene(drawing, seed) if drawing.kind == "scene" else _shapes(drawing, seed)
    return painted.reduce(SCALE).convert("RGB")


def _shapes(drawing: Drawing, seed: int) -> Image.Image:
    rng = random.Random(seed * 5 + 2)
    sheet = Image.new("L", (SIZE * SCALE, SIZE * SCALE), rng.randint(*WALL))
    pen, level = ImageDraw.Draw(sheet), rng.randint(*SHAPE)
    for number, points in enumerate(outlines(drawing, seed)):
        grey = min(255, level + BEFORE * number)
        if drawing.style == "outline":
            pen.line([*points, *points[:2]], fill=grey, width=STROKE * SCALE, joint="curve")
        else:
            pen.polygon(points, fill=grey)
    return sheet


def _scene(drawing: Drawing, seed: int) -> Image.Image:
    places = scene_places(drawing, random.Random(seed))
    rows = np.arange(SIZE * SCALE) / SCALE
    ground = np.where(rows < places.horizon, 0, _ground(rows, places.horizon)).round().astype(np.uint8)
    sheet = Image.fromarray(np.repeat(ground[:, None], SIZE * SCALE, 1)).convert("RGB")
    foot = _FOOT[drawing.thing] + places.thing[1]
    PAINTERS[drawing.thing](_DepthPen(sheet, *places.thing, float(_ground(foot, places.horizon))), (0, 0, 0))
    return sheet


def _ground(row: np.ndarray | float, horizon: float) -> np.ndarray | float:
    """The grey of the ground at a row of pixels."""
    return HORIZON + (RIM - HORIZON) * (row - horizon) / (SIZE - horizon)
