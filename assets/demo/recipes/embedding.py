"""Rebuilds `assets/demo/sd-embedding`: a word that demo-sd does not know, learned from a handful of pictures.

    python -m assets.demo.recipes.embedding --work FOLDER [--minutes 8] [--device cuda]

Gal et al. 2022, "An Image is Worth One Word: Personalizing Text-to-Image Generation using Textual Inversion". Nothing
of demo-sd is changed: what learns are the vectors that the text encoder is given where the prompt says `<flag>`. The
concept is one thing with its place and its ground, which no single word of the captions says. The same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from assets.demo.recipes import denoiser, loop, small
from assets.demo.recipes.drawings import Drawing, render
from assets.demo.recipes.latents import Latents
from assets.demo.recipes.stages import checkpoint, vae_of
from assets.demo.recipes.training import log
from pipelines.runtime.conditioning.embedding import Extended
from pipelines.runtime.text.clip import chunks_of
from pipelines.runtime.text.words import WithWords

WORD, VECTORS = "<flag>", 4
FILE = "sd-embedding.safetensors"  # Emulsion calls it demo-sd-embedding
CONCEPT = Drawing(shape="star", color="yellow", background="red", column="left", row="top", size="small")
TEMPLATES = ("{}", "a picture of {}", "a drawing of {}", "an image of {}", "a painting of {}")


def sheet_number(index: int) -> Image.Image:
    """The concept once more, with other jitter."""
    return render(CONCEPT, index)


def said(rng: random.Random) -> str:
    """A text with the word and nothing that tells what it means, with or without an article."""
    return rng.choice(TEMPLATES).format(rng.choice((WORD, f"a {WORD}")))


class Word(nn.Module):
    """`vectors` [VECTORS, width], all that is trained. They begin as the mean of the words that the encoder knows."""

    def __init__(self, table: nn.Embedding, known: Sequence[int]) -> None:
        super().__init__()
        mean = table.weight[list(known)].detach().mean(0, keepdim=True)
        self.vectors = nn.Parameter(
            mean.repeat(VECTORS, 1) + 0.01 * torch.randn(VECTORS, mean.shape[1]).to(mean)
        )


class Reader:
    """Reads texts with the word in them as the engine does; gradients reach the vectors of `word`."""

    def __init__(self, options: argparse.Namespace) -> None:
        tokenizer = CLIPTokenizer.from_pretrained(options.sd / "tokenizer")
        encoder: Any = CLIPTextModel.from_pretrained(options.sd / "text_encoder", dtype=torch.float32)
        self._encoder = encoder.to(options.device).eval().requires_grad_(False)
        table = self._encoder.get_input_embeddings()
        known = [number for name, number in tokenizer.get_vocab().items() if name.endswith("</w>")]
        self.word = Word(table, known).to(options.device)
        self._encoder.set_input_embeddings(Extended(table, self.word.vectors))
        first = table.num_embeddings
        self._tokenizer = WithWords(tokenizer, {WORD: range(first, first + VECTORS)})

    def read(self, texts: list[str]) -> torch.Tensor:
        """prompt_embeds [batch, 77, 128]."""
        ids = [chunks_of(self._tokenizer, text)[0][0] for text in texts]
        return self._encoder(torch.tensor(ids, device=self.word.vectors.device)).last_hidden_state


def train(options: argparse.Namespace) -> None:
    """Runs, or resumes, `--minutes` of training into `work`/embedding.pt."""
    latents = Latents(options.work, options.drawings, sheet=sheet_number)
    coder = vae_of(options.sd).to(options.device)
    latents.fill(coder, options.work, 0, options.device)
    scale = coder.config["scaling_factor"]
    (unet, _encode), schedule = (
        denoiser.finished(options.sd, options.device),
        DDPMScheduler(**denoiser.SCHEDULE),
    )
    torch.manual_seed(1)
    reader, rng = Reader(options), random.Random()

    def loss(_module: nn.Module, _fraction: float) -> torch.Tensor:
        indices = [rng.randrange(options.drawings) for _ in range(options.batch)]
        z = latents.read(np.array(indices)).to(options.device) * scale
        embeds = reader.read([said(rng) for _ in indices])
        times = denoiser.timesteps(len(indices), z.device)
        return denoiser.loss_of(lambda noisy, t: unet(noisy, t, embeds).sample, schedule, z,
                                denoiser.noise_like(z), times, 0.0)  # fmt: skip

    loop.train(options.work / "embedding.pt", reader.word, loss, 60 * options.minutes,
               rate=options.rate, decay=0.98)  # fmt: skip


def export(options: argparse.Namespace) -> Path:
    """One safetensors file with one tensor under the word's own name, as diffusers writes and reads it."""
    state = checkpoint(options.work / "embedding.pt", "embedding")
    vectors = state["average"]["module"]["vectors"].detach().cpu().float().contiguous()
    told = {
        "format": "pt",
        "emulsion.family": "sd1",
        "modelspec.title": f"Demo: {WORD} (textual inversion for SD 1.x)",
        "modelspec.description": f"A word for demo-sd, after {state['step']} steps on {options.drawings} drawings.",
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / FILE
    save_file({WORD: vectors}, path, metadata=told)
    path.chmod(0o644)
    log(options.work, "export", steps=state["step"], bytes=path.stat().st_size)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    options = small.parser_of(
        __doc__ or "", "sd-embedding", minutes=8, drawings=24, batch=8, rate=2e-2
    ).parse_args(arguments)
    small.run(options, train, export)


if __name__ == "__main__":
    main()
