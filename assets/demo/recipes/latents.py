"""Encodes drawings once into a file of latents that the denoiser's training reads while it still grows.

Drawing number i is decided by i alone, so the file holds nothing but latents: float16 [count, 4, 32, 32].
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from assets.demo.recipes.drawings import Drawing, random_drawing, render
from assets.demo.recipes.training import log, mixed_precision

SHAPE = (4, 32, 32)
_PAINTERS = 4  # processes
Sheet = Callable[[int], Image.Image]  # the picture of drawing number i


def drawing_number(index: int) -> Drawing:
    return random_drawing(random.Random(index * 2 + 1))


def sheet_number(index: int) -> Image.Image:
    return render(drawing_number(index), index)


def painted(sheet: Sheet, numbers: Iterable[int], device: str) -> Iterator[Image.Image]:
    """The sheets of these numbers in their order. Beside an accelerator, which is faster, several processes paint."""
    if device == "cpu":
        yield from map(sheet, numbers)
        return
    with multiprocessing.get_context("spawn").Pool(_PAINTERS) as pool:
        yield from pool.imap(sheet, numbers, chunksize=32)


class Latents:
    """The file and how far it is filled, per part: several processes may each fill their own part."""

    def __init__(self, work: Path, count: int, parts: int = 1, sheet: Sheet = sheet_number) -> None:
        self.path, self.count, self.parts, self.sheet = work / "latents.f16", count, parts, sheet
        if not self.path.exists():
            with self.path.open("wb") as file:
                file.truncate(count * 2 * int(np.prod(SHAPE)))  # sparse
        self.data = np.memmap(self.path, np.float16, "r+", shape=(count, *SHAPE))

    def _progress(self, part: int) -> Path:
        return self.path.with_suffix(f".part{part}")

    def filled(self, part: int) -> int:
        """How many of indices part, part + parts, part + 2 * parts ... are there."""
        path = self._progress(part)
        return int(path.read_text()) if path.exists() else 0

    def ready(self) -> np.ndarray:
        """All indices that can be read now."""
        return np.concatenate([np.arange(self.filled(p)) * self.parts + p for p in range(self.parts)])

    def read(self, indices: np.ndarray) -> torch.Tensor:
        """float32 [len(indices), 4, 32, 32], unscaled."""
        return torch.from_numpy(self.data[indices].astype(np.float32))

    @torch.inference_mode()
    def fill(self, vae: AutoencoderKL, work: Path, part: int, device: str) -> None:
        """Encodes what is missing of `part`; can be stopped at any time."""
        batch = 1 if device == "cpu" else 32  # one sheet fits the CPU's cache, and is the fastest there
        total = (self.count - part + self.parts - 1) // self.parts
        done = self.filled(part)
        left = painted(self.sheet, range(done * self.parts + part, self.count, self.parts), device)
        while done < total:
            indices = np.arange(done, min(done + batch, total)) * self.parts + part
            sheets = np.stack([np.asarray(sheet) for sheet in islice(left, len(indices))])
            x = torch.from_numpy(sheets).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
            with mixed_precision(device):
                z = vae.encode(x).latent_dist.mode()
            self.data[indices] = z.float().cpu().numpy().astype(np.float16)
            done += len(indices)
            self._progress(part).write_text(str(done))
            if done % 2000 < len(indices):
                log(work, "latents", part=part, done=done)


def statistics(latents: Latents, count: int = 2000) -> float:
    """The standard deviation over everything: its inverse is the VAE's scaling_factor."""
    return float(latents.read(latents.ready()[:count]).std())
