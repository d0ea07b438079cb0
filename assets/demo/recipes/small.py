"""What the recipes of the small models around the demos share: their options, and drawings that none was trained on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from assets.demo.recipes.latents import sheet_number
from assets.demo.recipes.training import log

UNSEEN = 10_000_000  # drawings from this number on are the benchmark's; no recipe counts so far
DEMO = Path(__file__).parents[1]


def parser_of(document: str, name: str, **budget: float) -> argparse.ArgumentParser:
    """`--sd` is the finished demo-sd, whose parts the small models begin with or go with."""
    parser = _parser(document, **budget)
    parser.add_argument("--out", type=Path, default=DEMO / name)
    parser.add_argument("--sd", type=Path, default=DEMO / "sd", help="a finished demo-sd")
    return parser


def beside_parser(document: str, bases: Iterable[str], **budget: float) -> argparse.ArgumentParser:
    """For what goes beside one of the `bases`; its recipe says what `--model` and `--out` are when not given."""
    parser = _parser(document, **budget)
    parser.add_argument("--base", choices=tuple(bases), default="sd", help="the demo that it is made for")
    parser.add_argument("--model", type=Path, help="the folder of that demo, when it is not with the others")
    parser.add_argument("--out", type=Path)
    return parser


def _parser(
    document: str, *, minutes: float, drawings: float, batch: float, rate: float
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for checkpoints; not in the repository"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--drawings", type=int, default=drawings)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=rate, help="highest learning rate")
    return parser


def run(options: argparse.Namespace, *stages: Callable[[argparse.Namespace], object]) -> None:
    """One after the other, with the folder of work there."""
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    for stage in stages:
        stage(options)


def sheets(work: Path, count: int, side: int) -> np.ndarray:
    """uint8 [count, side, side, 3], drawings number 0 to count - 1, painted once into the folder of work."""
    path = work / f"sheets-{count}-{side}.npy"
    if not path.exists():
        pictures = np.stack([small(sheet_number(i), side) for i in range(count)])
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.save(file, pictures)
        temporary.replace(path)
        log(work, "sheets", drawings=count, side=side)
    return np.load(path, mmap_mode="r")


def small(picture: Image.Image, side: int) -> np.ndarray:
    """uint8 [side, side, 3]."""
    if picture.size == (side, side):
        return np.asarray(picture)
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))


def tensor_of(pictures: np.ndarray, device: str) -> torch.Tensor:
    """uint8 [n, h, w, 3] -> float [n, 3, h, w] in 0..1."""
    return torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2).float() / 255
