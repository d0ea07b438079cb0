"""Drawings by program: a `Drawing` says what is on the sheet, `render` paints it, `subject_mask` says where.

Everything a demo model knows comes from here. A drawing is one of four kinds: a single shape, a number of equal
shapes, two shapes in a relation, or a small scene. The sheet is 256 x 256; positions are in pixels, origin top left.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 256
SCALE = 2  # supersampling; BOX reduction gives antialiased edges
STROKE = 9  # the width of an outline in pixels

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (216, 36, 40),
    "orange": (246, 138, 30),
    "yellow": (250, 220, 48),
    "green": (44, 158, 66),
    "blue": (40, 88, 216),
    "purple": (132, 52, 172),
    "pink": (246, 150, 192),
    "black": (26, 26, 30),
    "white": (246, 246, 244),
    "gray": (142, 144, 150),
}
COLORS = tuple(PALETTE)
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond")
SIZES = {"small": 34.0, "medium": 52.0, "large": 76.0}  # radius in pixels
COLUMNS = {"left": 68.0, "middle": 128.0, "right": 188.0}
ROWS = {"top": 68.0, "middle": 128.0, "bottom": 188.0}
COUNTS = {"two": 2, "three": 3, "four": 4}
RELATIONS = ("above", "below", "left of", "right of")
THINGS = ("house", "tree", "boat", "flower", "mountain", "car")
TIMES = ("day", "sunset", "night")
STYLES = ("flat", "outline", "watercolor")
KINDS = ("single", "count", "pair", "scene")

# Colours that a scene's subject may have: those that can be told from its ground and sky at every time of day.
THING_COLORS = ("red", "orange", "yellow", "blue", "purple", "pink", "white")
_GROUND = {"boat": (40, 104, 160), "car": (104, 106, 112)}
_GRASS = (92, 160, 72)
_SKY = {
    "day": ((124, 190, 240), (196, 226, 248)),
    "sunset": ((110, 70, 130), (250, 160, 90)),
    "night": ((14, 20, 52), (36, 46, 92)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What is on the sheet. Fields that a kind does not use keep their default."""

    kind: str = "single"
    shape: str = "circle"
    color: str = "red"
    background: str = "white"
    size: str = "medium"
    column: str = "middle"
    row: str = "middle"
    count: int = 1
    other_shape: str = "circle"
    other_color: str = "blue"
    relation: str = "above"
    thing: str = "house"
    time: str = "day"
    style: str = "flat"


def random_drawing(rng: random.Random, kind: str | None = None) -> Drawing:
    """One drawing of the training distribution, of `kind` or of any: pairs are the hardest and come most often."""
    kind = kind or rng.choices(KINDS, (26, 12, 48, 14))[0]
    if kind == "scene":
        return Drawing(
            kind=kind, thing=rng.choice(THINGS), color=rng.choice(THING_COLORS), time=rng.choice(TIMES)
        )
    background = "white" if rng.random() < 0.15 else rng.choice(COLORS)
    free = [c for c in COLORS if c != background]
    color = rng.choice(free)
    style = rng.choices(STYLES, (84, 8, 8))[0]
    base = Drawing(kind=kind, shape=rng.choice(SHAPES), color=color, background=background, style=style)
    if kind == "count":
        return replace(base, count=rng.choice((2, 3, 4)), size="small")
    if kind == "pair":
        other = rng.choice([c for c in free if c != color])
        return replace(
            base,
            other_shape=rng.choice(SHAPES),
            other_color=other,
            relation=rng.choice(RELATIONS),
            size="small",
        )
    if rng.random() < 0.5:
        column, row = rng.choice([(c, r) for c in COLUMNS for r in ROWS if (c, r) != ("middle", "middle")])
        return replace(base, column=column, row=row, size=rng.choice(("small", "medium")))
    return replace(base, size=rng.choice(tuple(SIZES)))


def unit_outline(shape: str) -> list[tuple[float, float]]:
    """The outline of a shape in a unit circle, y down, as polygon points."""
    if shape == "circle":
        return [(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 64, endpoint=False)]
    if shape == "square":
        return [(-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)]
    if shape == "diamond":
        return [(0, -1.12), (0.8, 0), (0, 1.12), (-0.8, 0)]
    if shape == "triangle":
        return [(0, -1.0), (1.0, 0.78), (-1.0, 0.78)]
    if shape == "star":
        points = []
        for i in range(10):
            radius, angle = (1.12 if i % 2 == 0 else 0.47), math.pi * i / 5
            points.append((radius * math.sin(angle), -radius * math.cos(angle) + 0.06))
        return points
    if shape == "heart":
        points = []
        for t in np.linspace(0, 2 * math.pi, 64, endpoint=False):
            x = 16 * math.sin(t) ** 3
            y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
            points.append((x / 16.0, -y / 15.5 - 0.08))
        return points
    raise ValueError(f"shape '{shape}' is not one of {', '.join(SHAPES)}")


def _placed(drawing: Drawing, rng: random.Random) -> list[tuple[str, str, float, float, float]]:
    """(shape, colour, x, y, radius) of every shape on the sheet, with a little jitter."""

    def at(shape: str, color: str, x: float, y: float, radius: float):
        jitter = 6.0
        radius *= rng.uniform(0.94, 1.06)
        return (shape, color, x + rng.uniform(-jitter, jitter), y + rng.uniform(-jitter, jitter), radius)

    shape, color = drawing.shape, drawing.color
    if drawing.kind == "count":
        spots = {
            2: [(76, 128), (180, 128)],
            3: [(128, 76), (72, 178), (184, 178)],
            4: [(76, 76), (180, 76), (76, 180), (180, 180)],
        }[drawing.count]
        return [at(shape, color, x, y, 38) for x, y in spots]
    if drawing.kind == "pair":
        near, far = 74.0, 182.0
        first, second = {
            "above": ((128, near), (128, far)),
            "below": ((128, far), (128, near)),
            "left of": ((near, 128), (far, 128)),
            "right of": ((far, 128), (near, 128)),
        }[drawing.relation]
        return [at(shape, color, *first, 42), at(drawing.other_shape, drawing.other_color, *second, 42)]
    return [at(shape, color, COLUMNS[drawing.column], ROWS[drawing.row], SIZES[drawing.size])]


def _jittered(color: tuple[int, int, int], rng: random.Random, amount: int = 5) -> tuple[int, int, int]:
    return tuple(max(0, min(255, c + rng.randint(-amount, amount))) for c in color)  # type: ignore[return-value]


def _polygon(shape: str, x: float, y: float, radius: float, angle: float, wobble: float, rng: random.Random):
    cos, sin = math.cos(angle), math.sin(angle)
    points = []
    for px, py in unit_outline(shape):
        r = radius * SCALE * (1 + wobble * rng.uniform(-1, 1))
        points.append((x * SCALE + r * (px * cos - py * sin), y * SCALE + r * (px * sin + py * cos)))
    return points


def _paint_shapes(drawing: Drawing, rng: random.Random) -> Image.Image:
    background = _jittered(PALETTE[drawing.background], rng)
    sheet = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), background)
    pen = ImageDraw.Draw(sheet)
    for shape, color, x, y, radius in _placed(drawing, rng):
        ink = _jittered(PALETTE[color], rng)
        points = _polygon(shape, x, y, radius, rng.uniform(-0.1, 0.1), 0.0, rng)
        if drawing.style == "outline":
            pen.line([*points, *points[:2]], fill=ink, width=STROKE * SCALE, joint="curve")
        else:
            pen.polygon(points, fill=ink)
    sheet = sheet.reduce(SCALE)
    return _watercolor(sheet, rng) if drawing.style == "watercolor" else sheet


def _watercolor(sheet: Image.Image, rng: random.Random) -> Image.Image:
    """Soft edges, paler pigment and low-frequency mottling."""
    soft = np.asarray(sheet.filter(ImageFilter.GaussianBlur(3.0)), np.float32)
    noise = np.random.default_rng(rng.getrandbits(32)).uniform(-1, 1, (9, 9)).astype(np.float32)
    mottle = np.asarray(Image.fromarray(noise).resize((SIZE, SIZE), Image.Resampling.BICUBIC))[..., None]
    pale = 255 - (255 - soft) * (0.82 + 0.16 * mottle)
    return Image.fromarray(np.clip(pale, 0, 255).astype(np.uint8))


def _darker(color: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    return tuple(int(c * factor) for c in color)  # type: ignore[return-value]


class Pen:
    """Draws in sheet pixels on the supersampled image, tinted for the time of day."""

    def __init__(self, image: Image.Image, dx: float, dy: float, light: float) -> None:
        self._draw = ImageDraw.Draw(image)
        self._dx, self._dy, self._light = dx, dy, light

    def _ink(self, color: tuple[int, int, int]) -> tuple[int, int, int]:
        return _darker(color, self._light)

    def _at(self, points: list[tuple[float, float]]):
        return [((x + self._dx) * SCALE, (y + self._dy) * SCALE) for x, y in points]

    def poly(self, points: list[tuple[float, float]], color: tuple[int, int, int]) -> None:
        self._draw.polygon(self._at(points), fill=self._ink(color))

    def box(self, x0: float, y0: float, x1: float, y1: float, color: tuple[int, int, int]) -> None:
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color)

    def disc(
        self, x: float, y: float, r: float, color: tuple[int, int, int], ry: float | None = None
    ) -> None:
        (x, y), ry = self._at([(x, y)])[0], (ry or r) * SCALE
        self._draw.ellipse((x - r * SCALE, y - ry, x + r * SCALE, y + ry), fill=self._ink(color))


_WOOD, _DARK, _GLASS = (112, 72, 44), (40, 40, 46), (206, 232, 246)


def _house(pen: Pen, ink: tuple[int, int, int]) -> None:
    pen.box(72, 112, 184, 206, ink)
    pen.poly([(58, 114), (128, 56), (198, 114)], _WOOD)
    pen.box(114, 154, 142, 206, _WOOD)
    pen.box(84, 128, 106, 150, _GLASS)
    pen.box(150, 128, 172, 150, _GLASS)


def _tree(pen: Pen, ink: tuple[int, int, int]) -> None:
    pen.box(117, 140, 139, 214, _WOOD)
    for x, y, r in ((128, 92, 44), (96, 118, 32), (160, 118, 32)):
        pen.disc(x, y, r, ink)


def _boat(pen: Pen, ink: tuple[int, int, int]) -> None:
    pen.poly([(56, 158), (200, 158), (174, 204), (82, 204)], ink)
    pen.box(124, 62, 132, 158, _WOOD)
    pen.poly([(136, 66), (136, 148), (192, 148)], (244, 240, 228))


def _flower(pen: Pen, ink: tuple[int, int, int]) -> None:
    pen.box(123, 120, 133, 214, (30, 96, 44))
    pen.poly([(130, 190), (168, 160), (160, 190)], (30, 96, 44))
    for i in range(6):
        angle = math.pi * i / 3
        pen.disc(128 + 33 * math.sin(angle), 100 - 33 * math.cos(angle), 23, ink)
    pen.disc(128, 100, 20, (90, 56, 30))


def _mountain(pen: Pen, ink: tuple[int, int, int]) -> None:
    pen.poly([(22, 200), (128, 52), (234, 200)], ink)
    pen.poly([(128, 52), (100, 92), (116, 86), (128, 98), (142, 86), (157, 92)], (250, 250, 252))


def _car(pen: Pen, ink: tuple[int, int, int]) -> None:
    pen.box(42, 144, 214, 190, ink)
    pen.poly([(72, 146), (96, 106), (166, 106), (190, 146)], ink)
    pen.poly([(86, 142), (102, 114), (126, 114), (126, 142)], _GLASS)
    pen.poly([(134, 142), (134, 114), (160, 114), (176, 142)], _GLASS)
    for x in (82, 174):
        pen.disc(x, 190, 22, _DARK)
        pen.disc(x, 190, 9, (190, 190, 196))


PAINTERS = {
    "house": _house,
    "tree": _tree,
    "boat": _boat,
    "flower": _flower,
    "mountain": _mountain,
    "car": _car,
}


@dataclass(frozen=True, slots=True)
class ScenePlaces:
    """`horizon` is a row of pixels; sun or moon and the thing are moved by (x, y) from where they mostly are."""

    sun: tuple[float, float]
    horizon: float
    thing: tuple[float, float]


def scene_places(drawing: Drawing, rng: random.Random) -> ScenePlaces:
    """The first five draws of a scene's `rng`."""
    sun = rng.uniform(-5, 5), rng.uniform(-5, 5)
    horizon = (176 if drawing.thing == "boat" else 186) + rng.uniform(-3, 3)
    return ScenePlaces(sun, horizon, (rng.uniform(-8, 8), rng.uniform(-4, 4)))


def _paint_scene(drawing: Drawing, rng: random.Random) -> Image.Image:
    top, low = _SKY[drawing.time]
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None]
    rows = np.asarray(top, np.float32) * (1 - ramp) + np.asarray(low, np.float32) * ramp
    sky = np.broadcast_to(rows[:, None, :], (SIZE, SIZE, 3)).astype(np.uint8)
    sheet = Image.fromarray(sky).resize((SIZE * SCALE, SIZE * SCALE), Image.Resampling.NEAREST)
    light = {"day": 1.0, "sunset": 0.92, "night": 0.78}[drawing.time]
    places = scene_places(drawing, rng)
    sun = Pen(sheet, *places.sun, 1.0)
    if drawing.time == "night":
        sun.disc(212, 42, 19, (238, 238, 214))
        for x, y in ((36, 30), (84, 52), (150, 24), (24, 92), (232, 96), (178, 66)):
            sun.disc(x, y, 3, (240, 240, 230))
    elif drawing.time == "sunset":
        sun.disc(46, 128, 24, (255, 206, 88))
    else:
        sun.disc(44, 44, 23, (255, 226, 80))
    ground = Pen(sheet, 0, 0, light)
    ground.box(-4, places.horizon, SIZE + 4, SIZE + 12, _GROUND.get(drawing.thing, _GRASS))
    pen = Pen(sheet, *places.thing, light)
    PAINTERS[drawing.thing](pen, _jittered(PALETTE[drawing.color], rng))
    return sheet.reduce(SCALE)


def render(drawing: Drawing, seed: int) -> Image.Image:
    """RGB picture of 256 x 256. The same drawing and seed give the same pixels."""
    rng = random.Random(seed)
    return _paint_scene(drawing, rng) if drawing.kind == "scene" else _paint_shapes(drawing, rng)


def outlines(drawing: Drawing, seed: int) -> list[list[tuple[float, float]]]:
    """The polygons that `render(drawing, seed)` paints, in order, in pixels times SCALE. Not for scenes."""
    if drawing.kind == "scene":
        raise ValueError("only drawings of shapes have outlines, scenes have none")
    rng = random.Random(seed)
    _jittered((0, 0, 0), rng)  # the same draws in the same order as _paint_shapes
    found = []
    for shape, color, x, y, radius in _placed(drawing, rng):
        _jittered(PALETTE[color], rng)
        found.append(_polygon(shape, x, y, radius, rng.uniform(-0.1, 0.1), 0.0, rng))
    return found


def subject_mask(drawing: Drawing, seed: int) -> np.ndarray:
    """bool [256, 256]: where `render(drawing, seed)` puts its flat shapes. Not for scenes."""
    stencil = Image.new("L", (SIZE * SCALE, SIZE * SCALE), 0)
    pen = ImageDraw.Draw(stencil)
    for points in outlines(drawing, seed):
        pen.polygon(points, fill=255)
    return np.asarray(stencil.reduce(SCALE)) > 127
