"""The upscaler against Lanczos on drawings that it never saw."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from assets.demo.recipes.latents import sheet_number
from assets.demo.recipes.small import UNSEEN, tensor_of
from assets.demo.recipes.upscaler import FILE, Compact, from_state, halved
from tests.benchmarks.demos.row import Row, Unit, not_trained

DEMO, TOPIC, COUNT = "demo-upscaler", "PSNR above that of Lanczos", 100


def decibels(made: np.ndarray, true: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all of RGB, uint8 [h, w, 3]; infinite for equal pictures."""
    error = float(np.mean((made.astype(np.float64) - true) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


@torch.inference_mode()
def doubled(model: Compact, picture: Image.Image) -> np.ndarray:
    """uint8 [2 h, 2 w, 3]."""
    made = model(tensor_of(np.asarray(picture)[None], "cpu"))[0]
    return (made.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def gains(model: Compact, count: int) -> list[float]:
    """For each unseen drawing the decibels by which `model` is better than Lanczos at undoing `halved`."""
    found = []
    for index in range(UNSEEN, UNSEEN + count):
        sheet = sheet_number(index)
        low, true = halved(sheet), np.asarray(sheet)
        usual = np.asarray(low.resize(sheet.size, Image.Resampling.LANCZOS))
        found.append(decibels(doubled(model, low), true) - decibels(usual, true))
    return found


def rows(root: Path) -> list[Row]:
    """`root` holds the demos' folders."""
    path = root / "upscaler" / FILE
    if not path.exists():
        return [not_trained(DEMO, TOPIC, 0.0, Unit.DECIBEL, above=True)]
    found = gains(from_state(load_file(path)), COUNT)
    return [Row(demo=DEMO, topic=TOPIC, target=0.0, unit=Unit.DECIBEL, figure=float(np.mean(found)),
                of=COUNT, above=True)]  # fmt: skip
