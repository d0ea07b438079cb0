"""What the recipes of all families do alike: processes side by side, preview colours, the folder that is shipped."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from assets.demo.recipes.drawings import render
from assets.demo.recipes.latents import Latents, drawing_number
from assets.demo.recipes.training import load_checkpoint


def checkpoint(path: Path, stage: str) -> dict[str, Any]:
    """Raises FileNotFoundError naming the stage that has to run first."""
    state = load_checkpoint(path)
    if state is None:
        raise FileNotFoundError(f"{path} is missing: run --stage {stage} first")
    return state


def add_options(parser: argparse.ArgumentParser, stages: tuple[str, ...]) -> None:
    """What every recipe can be told."""
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for checkpoints; not in the repository"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=150, help="for everything together")
    parser.add_argument("--drawings", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=16, help="pictures a process and step")
    parser.add_argument("--workers", type=int, default=2, help="processes for latents and denoiser (CPU)")
    parser.add_argument("--threads", type=int, default=1, help="threads a process")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate of the denoiser")
    parser.add_argument("--stage", choices=stages, action="append", help="only this one; may be repeated")


def spawned(function: Callable[[int, argparse.Namespace], None], options: argparse.Namespace) -> None:
    """`function(rank, options)` in as many processes as `options.workers` says."""
    (options.work / "rendezvous").unlink(missing_ok=True)
    if options.workers == 1:
        function(0, options)
    else:
        mp.spawn(function, (options,), options.workers)


@contextmanager
def together(rank: int, options: argparse.Namespace) -> Iterator[None]:
    """Inside, the processes can share gradients."""
    torch.set_num_threads(options.threads)
    if options.workers == 1:
        yield
        return
    dist.init_process_group("gloo", init_method=f"file://{options.work / 'rendezvous'}", rank=rank,
                            world_size=options.workers)  # fmt: skip
    yield
    dist.destroy_process_group()


def preview_factors(latents: Latents, scale: float, count: int = 400) -> tuple[list, list]:
    """Least squares of picture colours (0..1, one a cell of 8 x 8 pixels) on scaled latents."""
    indices = latents.ready()[:count]
    z = (latents.read(indices) * scale).permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    sheets = [np.asarray(render(drawing_number(int(i)), int(i)).reduce(8), np.float32) / 255 for i in indices]
    design = np.concatenate([z, np.ones((len(z), 1), np.float32)], 1)
    factors, *_ = np.linalg.lstsq(design, np.concatenate([s.reshape(-1, 3) for s in sheets]), rcond=None)
    rounded = [[round(float(v), 4) for v in row] for row in factors]
    return rounded[:4], rounded[4]


def write_folder(pipeline: Any, out: Path, facts: dict[str, Any]) -> int:
    """The diffusers folder in fp16 safetensors with `facts` as emulsion.json; keeps the model card. Its bytes."""
    temporary = out.with_name(out.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(temporary, safe_serialization=True)
    for path in temporary.glob("*/config.json"):  # diffusers writes down where a part was read from
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (temporary / "emulsion.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    card = out / "README.md"
    if card.exists():
        shutil.copy2(card, temporary / "README.md")
    for path in temporary.rglob("*"):  # save_pretrained leaves weights readable by their owner only
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(temporary, out)
    return sum(path.stat().st_size for path in out.rglob("*.*"))
