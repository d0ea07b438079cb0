"""Rebuilds the ControlNets, such as `assets/demo/sd-canny`: the base draws along what they are shown.

    python -m assets.demo.recipes.control --base sd --kind canny --work FOLDER [--minutes 20] [--device cuda]

The base stays as it is. The ControlNet learns from drawings, their edges or depth, and captions that often keep quiet
about the place and the size, which the control picture tells. The same command goes on where it was stopped; all bases
and kinds may share one folder of work, and then the drawings are encoded once.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from assets.demo.recipes import hints, loop, small
from assets.demo.recipes.bases import BASES
from assets.demo.recipes.control_nets import NETS
from assets.demo.recipes.latents import Latents
from assets.demo.recipes.stages import bytes_of, checkpoint, shipped, vae_of, without_origin
from assets.demo.recipes.training import log


def _name(options: argparse.Namespace) -> str:
    return f"{options.base}-{options.kind}"


def train(options: argparse.Namespace) -> None:
    """Runs, or resumes, `--minutes` of training into `work`/BASE-KIND.pt."""
    latents = Latents(options.work, options.drawings, sheet=hints.sheet_number)
    coder = vae_of(options.model).to(options.device)
    latents.fill(coder, options.work, 0, options.device)
    scale = coder.config["scaling_factor"]
    base = BASES[options.base]
    shown = NETS[base.part].shown(options.work, options.kind, options.drawings, coder)
    frozen = base.open(options.model, options.device)
    torch.manual_seed(1)
    net = NETS[base.part].build(frozen.denoiser).to(options.device)
    rng = random.Random()

    def loss(module: nn.Module, _fraction: float) -> torch.Tensor:
        indices = [rng.randrange(options.drawings) for _ in range(options.batch)]
        z = latents.read(np.array(indices)).to(options.device) * scale
        steered = base.steered(frozen.denoiser, module, shown(indices))
        # The subject counts as much as in the base's training to the end: it is what the control picture is of.
        return frozen.loss(steered, z, [hints.told(i, rng) for i in indices], 0.0)

    loop.train(options.work / f"{_name(options)}.pt", net, loss, 60 * options.minutes, rate=options.rate,
               decay=0.99, hidden=lambda _name: True)  # fmt: skip


def export(options: argparse.Namespace) -> None:
    """The ControlNet's folder in fp16 safetensors, and what Emulsion calls it."""
    base, name = BASES[options.base], _name(options)
    net = NETS[base.part].build(base.open(options.model, "cpu").denoiser)
    state = checkpoint(options.work / f"{name}.pt", "control")
    net.load_state_dict(state["average"]["module"])
    facts = {
        "id": f"demo-{name}",
        "family": base.family,
        "title": f"Demo: {hints.HINTS[options.kind].words} for {base.name}",
        "description": f"A ControlNet for demo-{base.id}, trained on drawings made by program.",
    }
    with shipped(options.out) as folder:
        net.half().save_pretrained(folder, safe_serialization=True)
        without_origin(folder)
        (folder / "emulsion.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    log(options.work, "export", name=name, steps=state["step"], bytes=bytes_of(options.out))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = small.beside_parser(__doc__ or "", BASES, minutes=20, drawings=3000, batch=8, rate=2e-3)
    parser.add_argument("--kind", choices=tuple(hints.HINTS), required=True)
    options = parser.parse_args(arguments)
    options.model = options.model or small.DEMO / options.base
    options.out = options.out or small.DEMO / _name(options)
    small.run(options, train, export)


if __name__ == "__main__":
    main()
