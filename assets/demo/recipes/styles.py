"""Styles that no demo model knows by itself, painted over drawings: `styled` is what the LoRAs learn from.

`drawings.py` is left as it is: its pictures are what the demos were trained on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from assets.demo.recipes.drawings import SIZE, Drawing, random_drawing, render

_TILE, _GROUT = 16, 3  # pixels; the latent's cell is 8, so a tile is two
_KINDS, _SHARES = ("single", "count", "pair"), (60, 20, 20)


def _blurred(values: np.ndarray, radius: float) -> np.ndarray:
    """float [256, 256, 3] in 0..255, blurred."""
    picture = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32)


def _noise(rng: random.Random, cells: int, across: int = 1) -> np.ndarray:
    """Smooth noise in -1..1, float32 [256, 256]: `cells` down the sheet and `across` times as many along it."""
    source = np.random.default_rng(rng.getrandbits(32))
    values = source.uniform(-1, 1, (cells, cells * across)).astype(np.float32)
    return np.asarray(Image.fromarray(values).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _neon(drawing: Drawing, seed: int, _rng: random.Random) -> np.ndarray:
    """Glowing tubes along the outlines before a dark wall, whose colour can still be told."""
    sheet = np.asarray(render(replace(drawing, style="outline"), seed), np.float32)
    wall = np.median(np.concatenate([sheet[:4].reshape(-1, 3), sheet[-4:].reshape(-1, 3)]), 0)
    tube = np.clip(np.abs(sheet - wall).max(2, keepdims=True) / 60, 0, 1)
    light = sheet * tube
    bright = light * (255 / np.maximum(light.max(2, keepdims=True), 120))
    glow = _blurred(bright, 9) * 1.1
    core = np.clip(bright + 70 * tube, 0, 255)
    return np.maximum(wall * 0.22 + glow, core * tube)


def _crayon(drawing: Drawing, seed: int, rng: random.Random) -> np.ndarray:
    """Slanted strokes of wax on paper that shows between them."""
    sheet = _blurred(np.asarray(render(replace(drawing, style="flat"), seed), np.float32), 1.2)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    slant = (x + y * rng.uniform(0.7, 1.1) + 6 * _noise(rng, 8)) / 13
    strokes = 0.5 + 0.5 * np.sin(2 * np.pi * slant)
    wax = np.clip(0.55 + 0.6 * strokes + 0.25 * _noise(rng, 48), 0.25, 1)[..., None]
    paper = np.array((250, 246, 232), np.float32)
    return paper + (sheet - paper) * wax


def _mosaic(drawing: Drawing, seed: int, rng: random.Random) -> np.ndarray:
    """Square tiles of one colour each, a little uneven, with pale grout between them."""
    flat = render(replace(drawing, style="flat"), seed)
    tiles = np.asarray(flat.reduce(_TILE), np.float32)
    source = np.random.default_rng(rng.getrandbits(32))
    tiles = tiles * source.uniform(0.86, 1.1, (*tiles.shape[:2], 1))
    sheet = tiles.repeat(_TILE, 0).repeat(_TILE, 1)
    line = np.arange(SIZE) % _TILE < _GROUT
    sheet[line[:, None] | line[None, :]] = (206, 202, 194)
    return sheet


_PAINTERS: dict[str, Callable[[Drawing, int, random.Random], np.ndarray]] = {
    "neon": _neon,
    "crayon": _crayon,
    "mosaic": _mosaic,
}
STYLES = tuple(_PAINTERS)


def styled(drawing: Drawing, seed: int, style: str) -> Image.Image:
    """RGB picture of 256 x 256 of a drawing of shapes; the same arguments give the same pixels.

    Raises ValueError for a style that is not in STYLES, and for scenes.
    """
    if style not in _PAINTERS:
        raise ValueError(f"style '{style}' is not one of {', '.join(STYLES)}")
    if drawing.kind == "scene":
        raise ValueError("styles are for drawings of shapes only, not scenes")
    painted = _PAINTERS[style](drawing, seed, random.Random(seed * 3 + 1))
    return Image.fromarray(np.clip(painted, 0, 255).astype(np.uint8))


def drawing_number(index: int) -> Drawing:
    """Shapes only, and flat: the style is what is painted over them."""
    rng = random.Random(index * 2 + 1)
    return replace(random_drawing(rng, rng.choices(_KINDS, _SHARES)[0]), style="flat")
