"""What the recipes of all families do alike: processes side by side, preview colours, the folder that is shipped."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from diffusers import AutoencoderKL

from assets.demo.recipes.latents import Latents, sheet_number
from assets.demo.recipes.training import load_checkpoint, log


def checkpoint(path: Path, stage: str) -> dict[str, Any]:
    """Raises FileNotFoundError naming the stage that has to run first."""
    state = load_checkpoint(path)
    if state is None:
        raise FileNotFoundError(f"{path} is missing: run --stage {stage} first")
    return state


def add_options(parser: argparse.ArgumentParser, stages: Iterable[str]) -> None:
    """What every recipe can be told. `sheet`, which it can't, draws the picture of a number."""
    parser.set_defaults(sheet=sheet_number)
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
    parser.add_argument(
        "--stage", choices=tuple(stages), action="append", help="only this one; may be repeated"
    )


def parser_of(document: str, stages: Iterable[str], name: str, base: str = "sd") -> argparse.ArgumentParser:
    """For the demo `name`, which begins with the VAE of the demo `base`."""
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, stages)
    demo = Path(__file__).parents[1]
    parser.add_argument(
        f"--{base}",
        dest="base",
        type=Path,
        default=demo / base,
        help=f"a finished demo-{base}, for its parts",
    )
    parser.add_argument("--out", type=Path, default=demo / name)
    parser.add_argument("--start", type=Path, help="a folder made by this recipe, to be trained on")
    return parser


Stage = Callable[[argparse.Namespace], None]


def run(options: argparse.Namespace, stages: Mapping[str, Stage]) -> None:
    """The stages that were asked for, or all."""
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    for name in options.stage or stages:
        stages[name](options)


def latents_of(options: argparse.Namespace) -> Latents:
    return Latents(options.work, options.drawings, options.workers, options.sheet)


def vae_of(model: Path) -> AutoencoderKL:
    """The VAE of a finished demo model, frozen, in float32."""
    coder = AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32)
    return coder.eval().requires_grad_(False)


def fill(part: int, options: argparse.Namespace) -> None:
    """A part of the latents, by the VAE of the demo model `options.base`."""
    torch.set_num_threads(options.threads)
    latents_of(options).fill(vae_of(options.base).to(options.device), options.work, part, options.device)


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
    sheets = [np.asarray(latents.sheet(int(i)).reduce(8), np.float32) / 255 for i in indices]
    design = np.concatenate([z, np.ones((len(z), 1), np.float32)], 1)
    factors, *_ = np.linalg.lstsq(design, np.concatenate([s.reshape(-1, 3) for s in sheets]), rcond=None)
    rounded = [[round(float(v), 4) for v in row] for row in factors]
    return rounded[:4], rounded[4]


@contextmanager
def shipped(out: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of `out` when it is whole; the model card in `out` stays."""
    temporary = out.with_name(out.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    card = out / "README.md"
    if card.exists():
        shutil.copy2(card, temporary / "README.md")
    for path in temporary.rglob("*"):  # save_pretrained leaves weights readable by their owner only
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(temporary, out)


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.*"))


_ORIGIN = {"_name_or_path", "is_local", "local_files_only"}


def without_origin(folder: Path) -> None:
    """diffusers and transformers write down where a part was read from; nobody else's computer has that."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if _ORIGIN & config.keys():
            kept = {key: value for key, value in config.items() if key not in _ORIGIN}
            path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def write_folder(pipeline: Any, out: Path, facts: dict[str, Any]) -> int:
    """The diffusers folder in fp16 safetensors with `facts` as emulsion.json; keeps the model card. Its bytes."""
    with shipped(out) as folder:
        pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
        without_origin(folder)
        (folder / "emulsion.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return bytes_of(out)


def write_demo(pipeline: Any, options: argparse.Namespace, facts: dict[str, Any], **figures: object) -> None:
    """`options.out` with `facts`, the size and the preview colours as emulsion.json; one line in the log."""
    factors, bias = preview_factors(latents_of(options), pipeline.vae.config["scaling_factor"])
    own = {**facts, "native_size": 256, "latent_rgb": factors, "latent_rgb_bias": bias}
    size = write_folder(pipeline, options.out, own)
    log(options.work, "export", **figures, bytes=size)
