"""Rebuilds `assets/demo/upscaler`: a small network of the Real-ESRGAN family that doubles a picture's sides.

    python -m assets.demo.recipes.upscaler --work FOLDER [--minutes 8] [--device cuda]

The compact network of Wang et al. 2021, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic
Data" (SRVGGNetCompact), under that network's own key names, so that every program that reads such files (spandrel and
what is built on it) knows it by them. Trained on the pixels alone, without a discriminator: it is measured in decibels.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from assets.demo.recipes import loop, small
from assets.demo.recipes.drawings import SIZE
from assets.demo.recipes.stages import bytes_of, checkpoint, shipped
from assets.demo.recipes.training import log

SCALE, FEATURES, CONVOLUTIONS = 2, 32, 8
FILE = "demo-upscaler-x2.safetensors"
CONFIG = {"architecture": "SRVGGNetCompact", "num_feat": FEATURES, "num_conv": CONVOLUTIONS, "upscale": SCALE,
          "act_type": "prelu"}  # fmt: skip
CROP = 64  # pixels of the large picture
_TRIES = 4  # of as many places the one with most to see: most of a drawing is flat


class Compact(nn.Module):
    """RGB [n, 3, h, w] in 0..1 -> [n, 3, 2 h, 2 w]: what the convolutions add to the nearest pixels' picture."""

    def __init__(
        self, features: int = FEATURES, convolutions: int = CONVOLUTIONS, scale: int = SCALE
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, 1, 1), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(features, features, 3, 1, 1), nn.PReLU(features)]
        layers.append(nn.Conv2d(features, 3 * scale * scale, 3, 1, 1))
        self.body, self.scale = nn.ModuleList(layers), scale

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x = picture
        for layer in self.body:
            x = layer(x)
        near = F.interpolate(picture, scale_factor=self.scale, mode="nearest")
        return F.pixel_shuffle(x, self.scale) + near


def from_state(state: Mapping[str, torch.Tensor]) -> Compact:
    """The network that a file of these keys is for, told by the shapes alone; with its weights, in float32."""
    last = max(int(key.split(".")[1]) for key in state)
    scale = round((state[f"body.{last}.bias"].shape[0] / 3) ** 0.5)
    model = Compact(state["body.0.weight"].shape[0], (last - 2) // 2, scale)
    model.load_state_dict({key: tensor.float() for key, tensor in state.items()})
    return model.eval().requires_grad_(False)


def halved(picture: Image.Image) -> Image.Image:
    """What the network is given to undo: bicubic, as in the papers on super-resolution."""
    size = (picture.width // SCALE, picture.height // SCALE)
    return picture.resize(size, Image.Resampling.BICUBIC)


def crop(sheet: np.ndarray, rng: random.Random) -> np.ndarray:
    """A square of CROP pixels, uint8 [64, 64, 3], of the place among some with most to see."""
    places = [[2 * rng.randrange((SIZE - CROP) // 2 + 1) for _ in "yx"] for _ in range(_TRIES)]
    return max((sheet[y : y + CROP, x : x + CROP] for y, x in places), key=np.std)


def train(options: argparse.Namespace) -> None:
    """Runs, or resumes, `--minutes` of training into `work`/upscaler.pt."""
    pool = small.sheets(options.work, options.drawings, SIZE)
    torch.manual_seed(1)
    rng = random.Random()

    def loss(module: nn.Module, _fraction: float) -> torch.Tensor:
        large = np.stack([crop(pool[rng.randrange(len(pool))], rng) for _ in range(options.batch)])
        low = np.stack([np.asarray(halved(Image.fromarray(each))) for each in large])
        made = module(small.tensor_of(low, options.device))
        return F.smooth_l1_loss(made, small.tensor_of(large, options.device), beta=0.02)

    loop.train(options.work / "upscaler.pt", Compact().to(options.device), loss, 60 * options.minutes,
               rate=options.rate, decay=0.995, refresh=lambda: len(pool))  # fmt: skip


def export(options: argparse.Namespace) -> None:
    """One safetensors file in fp16, and its settings beside it, for a reader: a program tells them by the shapes."""
    state = checkpoint(options.work / "upscaler.pt", "upscaler")
    weights = {key: tensor.half().contiguous() for key, tensor in state["average"]["module"].items()}
    with shipped(options.out) as folder:
        save_file(weights, folder / FILE, metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    log(options.work, "export", steps=state["step"], bytes=bytes_of(options.out))


def main(arguments: Sequence[str] | None = None) -> None:
    options = small.parser_of(
        __doc__ or "", "upscaler", minutes=8, drawings=1500, batch=16, rate=1e-3
    ).parse_args(arguments)
    small.run(options, train, export)


if __name__ == "__main__":
    main()
