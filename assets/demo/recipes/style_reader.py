"""A small convolutional network that says which style a picture has. It judges the LoRAs; no demo uses it.

    python -m assets.demo.recipes.style_reader --work FOLDER [--minutes 3]

It is trained again from nothing wherever it is missing, in minutes: into `work`/style_reader.pt. Half of its pictures
went through the VAE of demo-sd and back, since that is how a LoRA's pictures come. Its own share of right answers on
drawings that it was not trained on is printed.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from assets.demo.recipes import drawings, loop, small, styles
from assets.demo.recipes.stages import checkpoint, vae_of
from assets.demo.recipes.training import log

NAMES = (*drawings.STYLES, *styles.STYLES)
SIDE = 128


class StyleReader(nn.Module):
    """[n, 3, 128, 128] in 0..1 -> logits [n, styles]. Averages over the sheet: a style is everywhere."""

    def __init__(self) -> None:
        super().__init__()
        widths, layers = (3, 16, 32, 48, 64), []
        for wide, wider in pairwise(widths):
            layers += [nn.Conv2d(wide, wider, 3, 2, 1), nn.GroupNorm(8, wider), nn.SiLU()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(2 * widths[-1], len(NAMES))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        x = self.body(pictures * 2 - 1)
        return self.head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))


def painted(index: int) -> tuple[np.ndarray, int]:
    """Drawing number `index` in one of the styles, uint8 [256, 256, 3], and the style's number."""
    number = index % len(NAMES)
    drawing, style = styles.drawing_number(index), NAMES[number]
    if style in styles.STYLES:
        return np.asarray(styles.styled(drawing, index, style)), number
    return np.asarray(drawings.render(replace(drawing, style=style), index)), number


@torch.inference_mode()
def through(coder: AutoencoderKL, pictures: np.ndarray) -> np.ndarray:
    """uint8 [n, 256, 256, 3], as the VAE can draw them."""
    x = small.tensor_of(pictures, str(coder.device)) * 2 - 1
    y = coder.decode(coder.encode(x).latent_dist.mode()).sample
    return ((y / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def pool(coder: AutoencoderKL, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [count, 128, 128, 3], style numbers [count]); half of each style went through the VAE."""
    sheets, numbers = [], []
    for index in range(first, first + count):
        sheet, number = painted(index)
        if index // len(NAMES) % 2:
            sheet = through(coder, sheet[None])[0]
        sheets.append(halved(sheet))
        numbers.append(number)
    return np.stack(sheets), np.array(numbers)


def halved(picture: np.ndarray) -> np.ndarray:
    """uint8 [256, 256, 3] -> [128, 128, 3], the mean of four pixels each."""
    return picture.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3)).round().astype(np.uint8)


@torch.inference_mode()
def read(model: StyleReader, pictures: np.ndarray) -> list[str]:
    """The style of each of uint8 [n, 256, 256, 3]."""
    shown = np.stack([halved(picture) for picture in pictures])
    return [NAMES[int(i)] for i in model(small.tensor_of(shown, "cpu")).argmax(1)]


def load(work: Path) -> StyleReader:
    model = StyleReader()
    model.load_state_dict(checkpoint(work / "style_reader.pt", "style_reader")["average"]["module"])
    return model.eval().requires_grad_(False)


def train(options: argparse.Namespace) -> float:
    """Runs, or resumes, `--minutes` of training. The share of right answers on unseen drawings."""
    coder = vae_of(options.sd).to(options.device)
    sheets, numbers = pool(coder, 0, options.drawings)
    torch.manual_seed(1)
    rng = random.Random()

    def loss(module: nn.Module, _fraction: float) -> torch.Tensor:
        indices = [rng.randrange(len(sheets)) for _ in range(options.batch)]
        wanted = torch.from_numpy(numbers[indices]).to(options.device)
        return F.cross_entropy(module(small.tensor_of(sheets[indices], options.device)), wanted)

    loop.train(options.work / "style_reader.pt", StyleReader().to(options.device), loss, 60 * options.minutes,
               rate=options.rate, decay=0.98)  # fmt: skip
    unseen, wanted = pool(coder, small.UNSEEN, options.unseen)
    with torch.inference_mode():
        answers = load(options.work)(small.tensor_of(unseen, "cpu")).argmax(1).numpy()
    share = float((answers == wanted).mean())
    log(options.work, "style_reader", unseen=len(unseen), right=round(share, 4))
    return share


def main(arguments: Sequence[str] | None = None) -> None:
    parser = small.parser_of(__doc__ or "", "", minutes=1, drawings=600, batch=32, rate=2e-3)
    parser.add_argument("--unseen", type=int, default=120, help="drawings that it is examined on")
    options = parser.parse_args(arguments)
    small.run(options, train)


if __name__ == "__main__":
    main()
