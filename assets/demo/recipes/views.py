"""Drawings as SDXL's micro-conditioning means them: enlarged from a small size, or a piece cut out of a larger sheet.

Podell et al., "SDXL", 2023, sections 2.2 and 2.5: the model is told the size that a picture had and what was cut off,
and the refiner is told how beautiful it is. Here two of five sheets are such views, and flaws are worth 2.5, not 6.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from assets.demo.recipes.drawings import SIZE
from assets.demo.recipes.latents import sheet_number

BEAUTIFUL, FLAWED = 6.0, 2.5  # what Emulsion, and diffusers, ask for and against
FLAWS = ("blur", "noise", "blocks")


@dataclass(frozen=True, slots=True)
class View:
    """`original`: the side before it was scaled; `left`, `top`: pixels cut off; `scaled`: the side before."""

    original: int = SIZE
    scaled: int = SIZE
    left: int = 0
    top: int = 0

    def ids(self) -> list[float]:
        """Original height and width, crop top and left, in the order of the pipelines."""
        return [self.original, self.original, self.top, self.left]


def view_number(index: int) -> View:
    rng = random.Random(index * 2)
    kind = rng.choices(("whole", "small", "piece"), (6, 2, 2))[0]
    if kind == "small":
        return View(original=rng.randrange(48, 224, 8))
    if kind == "piece":
        scaled = rng.randrange(288, 392, 8)
        return View(scaled=scaled, left=rng.randint(0, scaled - SIZE), top=rng.randint(0, scaled - SIZE))
    return View()


def view_of(index: int) -> Image.Image:
    """256 x 256 pixels of drawing number `index`, as `view_number` says."""
    view, sheet = view_number(index), sheet_number(index)
    if view.original < SIZE:
        small = sheet.resize((view.original, view.original), Image.Resampling.BOX)
        return small.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    if view.scaled > SIZE:
        large = sheet.resize((view.scaled, view.scaled), Image.Resampling.BICUBIC)
        return large.crop((view.left, view.top, view.left + SIZE, view.top + SIZE))
    return sheet


def flaw_number(index: int) -> str:
    """What is wrong with the picture, nothing with two of three."""
    rng = random.Random(-1 - index)
    return rng.choice(FLAWS) if rng.random() < 1 / 3 else ""


def score_number(index: int) -> float:
    """The aesthetic score of `flawed_view`."""
    base = FLAWED if flaw_number(index) else BEAUTIFUL
    return base + random.Random(index).uniform(-0.5, 0.5)


def flawed_view(index: int) -> Image.Image:
    """`view_of` with the flaw that `flaw_number` says."""
    sheet, flaw, rng = view_of(index), flaw_number(index), random.Random(index)
    if flaw == "blur":
        return sheet.filter(ImageFilter.GaussianBlur(rng.uniform(2, 5)))
    if flaw == "noise":
        grain = np.random.default_rng(index).normal(0, rng.uniform(20, 40), (SIZE, SIZE, 3))
        return Image.fromarray((np.asarray(sheet) + grain).clip(0, 255).astype(np.uint8))
    if flaw == "blocks":
        packed = io.BytesIO()
        sheet.save(packed, "JPEG", quality=rng.randint(3, 9))
        return Image.open(packed).convert("RGB")
    return sheet
