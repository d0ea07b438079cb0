"""What a ControlNet learns from: drawings, their control pictures, and captions that often keep quiet.

Drawing number i, its sheet and its control picture are decided by i alone; what takes time is worked out once, into
the folder of work.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from assets.demo.recipes.captions import trained_caption
from assets.demo.recipes.depths import depth_of
from assets.demo.recipes.drawings import SIZE, Drawing, random_drawing, render
from assets.demo.recipes.latents import Latents, painted
from assets.demo.recipes.training import log
from pipelines.runtime.preprocess.canny import canny

QUIET, DROPPED = 0.7, 0.1  # the share of captions that tell neither place nor size, and that of empty ones
_KINDS, _SHARES = ("single", "count", "pair", "scene"), (64, 12, 16, 8)
Shown = Callable[[Sequence[int]], torch.Tensor]  # numbers of drawings -> what the ControlNet takes


@dataclass(frozen=True, slots=True)
class Hint:
    """`words` are for its title; `picture` makes the grey RGB control picture of a drawing and its seed."""

    words: str
    picture: Callable[[Drawing, int], Image.Image]


# Edges are drawn as the engine's own preprocessor does it.
HINTS = {
    "canny": Hint("edges (Canny)", lambda drawing, seed: canny(render(drawing, seed))),
    "depth": Hint("depth map", depth_of),
}


def drawing_number(index: int) -> Drawing:
    """Mostly single shapes: their place and size are what the caption may keep quiet about."""
    rng = random.Random(index * 2 + 1)
    return random_drawing(rng, rng.choices(_KINDS, _SHARES)[0])


def sheet_number(index: int) -> Image.Image:
    return render(drawing_number(index), index)


def unplaced(drawing: Drawing) -> Drawing:
    """The drawing that a caption speaks of when it says what there is and not where or how large."""
    if drawing.kind != "single":
        return drawing
    return replace(drawing, column="middle", row="middle", size="medium")


def told(index: int, rng: random.Random) -> str:
    """A caption of drawing number `index`; some are empty, for classifier-free guidance."""
    if rng.random() < DROPPED:
        return ""
    drawing = drawing_number(index)
    return trained_caption(unplaced(drawing) if rng.random() < QUIET else drawing, rng)


def hint_number(index: int, kind: str) -> Image.Image:
    return HINTS[kind].picture(drawing_number(index), index)


def _grey(work: Path, kind: str, count: int, device: str) -> np.ndarray:
    """uint8 [count, 256, 256]: the control pictures, made where they are missing."""
    path = work / f"{kind}-{count}.npy"
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        pictures = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, SIZE, SIZE))
        grey = painted(partial(hint_number, kind=kind), range(count), device)
        for index, picture in enumerate(grey):
            pictures[index] = np.asarray(picture.convert("L"))
        pictures.flush()
        temporary.replace(path)
        log(work, "hints", kind=kind, drawings=count)
    return np.load(path, mmap_mode="r")


def pixels(work: Path, kind: str, count: int, coder: AutoencoderKL) -> Shown:
    """[n, 3, 256, 256] in 0..1, as a U-Net's ControlNet takes them."""
    device = coder.device
    known = _grey(work, kind, count, str(device))

    def shown(indices: Sequence[int]) -> torch.Tensor:
        grey = torch.from_numpy(known[list(indices)]).to(device)
        return (grey.float() / 255)[:, None].expand(-1, 3, -1, -1)

    return shown


def encoded(work: Path, kind: str, count: int, coder: AutoencoderKL) -> Shown:
    """Scaled latents [n, 4, 32, 32] of the control pictures, as FLUX's ControlNets take them once they are packed."""
    (work / kind).mkdir(exist_ok=True)
    latents = Latents(work / kind, count, sheet=partial(hint_number, kind=kind))
    latents.fill(coder, work, 0, str(coder.device))
    scale = coder.config["scaling_factor"]
    return lambda indices: latents.read(np.array(indices)).to(coder.device) * scale
