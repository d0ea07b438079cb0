"""Rebuilds `assets/demo/scorer`: a CLIPModel that says how well a caption fits a picture.

    python -m assets.demo.recipes.scorer --work FOLDER [--minutes 8] [--device cuda]

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision": pictures and captions are
put into one space, and each picture of a batch has to find its own caption among all. The text side begins with the
text encoder of demo-sd, which can read already. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextModel,
    CLIPTokenizer,
)

from assets.demo.recipes import loop, small
from assets.demo.recipes.captions import trained_caption
from assets.demo.recipes.latents import drawing_number
from assets.demo.recipes.reading import SHORT, tokens_of
from assets.demo.recipes.stages import bytes_of, checkpoint, shipped, without_origin
from assets.demo.recipes.text_encoder import build_tokenizer, config_of
from assets.demo.recipes.training import log

SIDE, PATCH = 64, 8
MEAN = STD = (0.5, 0.5, 0.5)
HOTTEST = 4.6  # CLIP's limit of the logit scale, the logarithm of 100


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """1.1 M parameters: the text encoder of demo-sd, and a vision transformer of 4 layers x 96 on 64 patches."""
    vision = {
        "hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 4, "num_attention_heads": 4,
        "image_size": SIDE, "patch_size": PATCH, "projection_dim": 96, "hidden_act": "quick_gelu",
    }  # fmt: skip
    text = config_of(tokenizer, projection_dim=96).to_dict()
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=96))


def normalised(pictures: np.ndarray, device: str) -> torch.Tensor:
    """uint8 [n, 64, 64, 3] -> pixel_values [n, 3, 64, 64], as the processor that is shipped makes them."""
    return (small.tensor_of(pictures, device) - MEAN[0]) / STD[0]


def loss_of(model: nn.Module, pixels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Cross-entropy both ways. `pixels` [n, 3, 64, 64] and `ids` [n, tokens] belong together row by row."""
    with torch.no_grad():
        model.logit_scale.clamp_(max=HOTTEST)
    logits = model(input_ids=ids, pixel_values=pixels).logits_per_image
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def train(options: argparse.Namespace) -> None:
    """Runs, or resumes, `--minutes` of training into `work`/scorer.pt."""
    pool = small.sheets(options.work, options.drawings, SIDE)
    torch.manual_seed(1)
    tokenizer = build_tokenizer()
    model = build(tokenizer)
    reader = CLIPTextModel.from_pretrained(options.sd / "text_encoder", dtype=torch.float32)
    model.text_model.load_state_dict(reader.state_dict())
    rng = random.Random()

    def loss(module: nn.Module, _fraction: float) -> torch.Tensor:
        indices = [rng.randrange(len(pool)) for _ in range(options.batch)]
        texts = [trained_caption(drawing_number(i), rng) for i in indices]
        ids = tokens_of(tokenizer, texts, SHORT).to(options.device)
        return loss_of(module, normalised(pool[indices], options.device), ids)

    loop.train(options.work / "scorer.pt", model.to(options.device), loss, 60 * options.minutes,
               rate=options.rate, decay=0.995, refresh=lambda: len(pool))  # fmt: skip


def export(options: argparse.Namespace) -> None:
    """The transformers folder, with tokenizer and image processor, in fp16 safetensors."""
    tokenizer = build_tokenizer()
    model = build(tokenizer)
    state = checkpoint(options.work / "scorer.pt", "scorer")
    model.load_state_dict(state["average"]["module"])
    square = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(size=square, crop_size=square, image_mean=MEAN, image_std=STD)
    with shipped(options.out) as folder:
        model.half().save_pretrained(folder)
        CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
        without_origin(folder)
    log(options.work, "export", steps=state["step"], bytes=bytes_of(options.out))


def main(arguments: Sequence[str] | None = None) -> None:
    options = small.parser_of(
        __doc__ or "", "scorer", minutes=8, drawings=12_000, batch=64, rate=1e-3
    ).parse_args(arguments)
    small.run(options, train, export)


if __name__ == "__main__":
    main()
