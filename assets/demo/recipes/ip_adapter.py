"""Rebuilds `assets/demo/sd-ip-adapter`: demo-sd takes its colours and its style from a picture.

    python -m assets.demo.recipes.ip_adapter --work FOLDER [--scorer FOLDER] [--minutes 30] [--device cuda]

Ye et al. 2023, "IP-Adapter: Text Compatible Image Prompt Adapter for Text-to-Image Diffusion Models". The image
encoder is the vision half of the demo scorer. UNet and encoder stay as they are; what learns are four tokens made of
the picture, and the keys and values by which every attention to the text attends to them as well. The captions say
what to draw and keep quiet about its colours, which the shown picture, another drawing, tells. The same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from assets.demo.recipes import denoiser, loop, small
from assets.demo.recipes.captions import trained_caption
from assets.demo.recipes.drawings import COLORS, STYLES, Drawing, random_drawing, render
from assets.demo.recipes.image_encoder import encoder_from
from assets.demo.recipes.latents import Latents
from assets.demo.recipes.stages import bytes_of, checkpoint, shipped, vae_of, without_origin
from assets.demo.recipes.training import load_checkpoint, log, save_checkpoint

TOKENS = 4  # as the loaders of IP-Adapters expect
FILE, ENCODER = "sd-ip-adapter.safetensors", "image_encoder"  # Emulsion calls it demo-sd-ip-adapter
_DEAF, _BOTH, _BLIND = 0.1, 0.05, 0.05  # shares without the caption, without either, without the picture
_COLOR = "|".join((*COLORS, "grey"))
_SAID = (
    (rf"\bon an? (?:{_COLOR}) background, ", ""),
    (rf"(?: on an?|,) (?:{_COLOR}) background", ""),
    (rf"\ban (?:{_COLOR}) ", "a "),
    (rf"\b(?:{_COLOR}) ", ""),
)


def drawing_number(index: int) -> Drawing:
    """What is to be drawn: shapes of one colour, as the shown picture cannot tell whose a second one is."""
    rng = random.Random(index * 2 + 1)
    drawing = random_drawing(rng, rng.choices(("single", "count"), (75, 25))[0])
    return replace(drawing, style=rng.choices(STYLES, (70, 15, 15))[0])


def shown_number(index: int) -> Drawing:
    """The picture prompt of drawing number `index`: something else in its colours and style."""
    own = drawing_number(index)
    other = random_drawing(random.Random(-1 - index), "single")
    return replace(other, color=own.color, background=own.background, style=own.style)


def quiet(drawing: Drawing, rng: random.Random) -> str:
    """A caption that says neither colours nor style: 'a small circle in the top left corner'."""
    text = trained_caption(replace(drawing, style="flat"), rng)
    for pattern, instead in _SAID:
        text = re.sub(pattern, instead, text)
    return text


def sheet_number(index: int) -> Image.Image:
    return render(drawing_number(index), index)


class Adapter(nn.Module):
    """All that is trained: `image_proj` makes tokens of a picture, `ip_adapter` are the attentions to them.

    Their keys and values begin as those of the text.
    """

    def __init__(self, unet: UNet2DConditionModel, seen: int) -> None:
        super().__init__()
        width = unet.config["cross_attention_dim"]
        self.image_proj = ImageProjection(seen, width, TOKENS)
        layers: list[Any] = [unet.get_submodule(name.removesuffix(".processor")) for name in crossed(unet)]
        self.ip_adapter = nn.ModuleList(
            IPAdapterAttnProcessor2_0(layer.to_k.out_features, width, (TOKENS,)) for layer in layers
        )
        for own, layer in zip(self.ip_adapter, layers, strict=True):
            own.to_k_ip[0].load_state_dict(layer.to_k.state_dict())  # pyright: ignore
            own.to_v_ip[0].load_state_dict(layer.to_v.state_dict())  # pyright: ignore

    def put_into(self, unet: Any) -> None:
        """From now on `unet` asks for `image_embeds`, as diffusers has it."""
        own = dict(zip(crossed(unet), self.ip_adapter, strict=True))
        unet.set_attn_processor({**unet.attn_processors, **own})
        unet.encoder_hid_proj = MultiIPAdapterImageProjection([self.image_proj])
        unet.config.encoder_hid_dim_type = "ip_image_proj"

    def named(self) -> dict[str, torch.Tensor]:
        """In half precision under the names of IP-Adapter files, which count all attentions of the UNet."""
        names = {"image_embeds": "proj", "norm": "norm"}
        state = {
            f"image_proj.{names[part]}.{kind}": tensor
            for key, tensor in self.image_proj.state_dict().items()
            for part, kind in [key.split(".")]
        }
        for number, own in enumerate(self.ip_adapter):
            for key, tensor in own.state_dict().items():
                state[f"ip_adapter.{2 * number + 1}.{key.replace('.0.', '.')}"] = tensor
        return {key: tensor.detach().cpu().half().contiguous() for key, tensor in state.items()}


def crossed(unet: UNet2DConditionModel) -> list[str]:
    """The names of the processors of its attentions to the text."""
    return [name for name in unet.attn_processors if name.endswith("attn2.processor")]


@torch.inference_mode()
def seen(options: argparse.Namespace, encoder: CLIPVisionModelWithProjection) -> torch.Tensor:
    """[drawings, width] of all shown pictures, seen once, the way that the engine shows them to the encoder."""
    path = options.work / f"seen-{options.drawings}.pt"
    if (known := load_checkpoint(path)) is None:
        side = encoder.config.image_size
        process = CLIPImageProcessor(size=side, crop_size=side)
        rows = []
        for start in range(0, options.drawings, 64):
            numbers = range(start, min(start + 64, options.drawings))
            pictures = [render(shown_number(i), small.UNSEEN // 2 + i) for i in numbers]
            pixels: Any = process(pictures, return_tensors="pt").pixel_values
            rows.append(encoder(pixels.to(options.device)).image_embeds.float().cpu())
        known = {"embeds": torch.cat(rows)}
        save_checkpoint(path, known)
        log(options.work, "seen", drawings=options.drawings)
    return known["embeds"].to(options.device)


def train(options: argparse.Namespace) -> None:
    """Runs, or resumes, `--minutes` of training into `work`/ip_adapter.pt."""
    encoder: Any = encoder_from(options.scorer).to(options.device)
    shown = seen(options, encoder).clone()  # a tensor of inference mode takes part in no training
    latents = Latents(options.work, options.drawings, sheet=sheet_number)
    coder = vae_of(options.sd).to(options.device)
    latents.fill(coder, options.work, 0, options.device)
    scale = coder.config["scaling_factor"]
    unet, encode = denoiser.finished(options.sd, options.device)
    schedule = DDPMScheduler(**denoiser.SCHEDULE)
    torch.manual_seed(1)
    adapter = Adapter(unet, shown.shape[1]).to(options.device)
    adapter.put_into(unet)
    rng = random.Random()

    def loss(_module: nn.Module, fraction: float) -> torch.Tensor:
        indices = [rng.randrange(options.drawings) for _ in range(options.batch)]
        z = latents.read(np.array(indices)).to(options.device) * scale
        chance = [rng.random() for _ in indices]
        deaf = [share < _DEAF + _BOTH for share in chance]
        sighted = [not _DEAF <= share < _DEAF + _BOTH + _BLIND for share in chance]
        embeds = encode(
            ["" if no else quiet(drawing_number(i), rng) for i, no in zip(indices, deaf, strict=True)]
        )
        pictures = shown[indices] * torch.tensor(sighted, device=shown.device)[:, None]

        def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return unet(noisy, t, embeds, added_cond_kwargs={"image_embeds": [pictures[:, None]]}).sample

        times = denoiser.timesteps(len(indices), z.device)
        return denoiser.loss_of(predict, schedule, z, denoiser.noise_like(z), times, fraction)

    loop.train(options.work / "ip_adapter.pt", adapter, loss, 60 * options.minutes,
               rate=options.rate, decay=0.995)  # fmt: skip


def export(options: argparse.Namespace) -> Path:
    """The adapter's file and its image encoder's folder beside it, in fp16."""
    encoder = encoder_from(options.scorer)
    adapter = Adapter(denoiser.finished(options.sd, options.device)[0], encoder.config.projection_dim)
    state = checkpoint(options.work / "ip_adapter.pt", "ip_adapter")
    adapter.load_state_dict(state["average"]["module"])
    told = {
        "format": "pt",
        "emulsion.family": "sd1",
        "modelspec.title": "Demo: colours of a picture (IP-Adapter for SD 1.x)",
        "modelspec.description": f"An IP-Adapter for demo-sd, after {state['step']} steps on drawings made by program.",
    }
    with shipped(options.out) as folder:
        save_file(adapter.named(), folder / FILE, metadata=told)
        encoder.half().save_pretrained(folder / ENCODER)
        without_origin(folder)
    log(options.work, "export", steps=state["step"], bytes=bytes_of(options.out))
    return options.out / FILE


def main(arguments: Sequence[str] | None = None) -> None:
    parser = small.parser_of(__doc__ or "", "sd-ip-adapter", minutes=30, drawings=4000, batch=8, rate=1e-3)
    parser.add_argument("--scorer", type=Path, default=small.DEMO / "scorer", help="a finished scorer")
    options = parser.parse_args(arguments)
    if not (options.scorer / "config.json").is_file():
        parser.error(f"there is no scorer in {options.scorer}; make it: python -m assets.demo.recipes.scorer")
    small.run(options, train, export)


if __name__ == "__main__":
    main()
