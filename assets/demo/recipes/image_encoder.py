"""The vision half of the demo scorer as the image encoder of an IP-Adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPModel, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from assets.demo.recipes.scorer import MEAN, STD

State = dict[str, torch.Tensor]


def encoder_from(scorer: Path) -> CLIPVisionModelWithProjection:
    """Answers as the scorer of this folder does, to pixels normalised as OpenAI's CLIP wants them.

    So does every program that loads an IP-Adapter, whatever the encoder was trained on.
    """
    clip: Any = CLIPModel.from_pretrained(scorer, dtype=torch.float32)
    config = clip.config.vision_config
    config.projection_dim = clip.config.projection_dim
    encoder = CLIPVisionModelWithProjection(config)
    state = {f"vision_model.{name}": tensor for name, tensor in clip.vision_model.state_dict().items()}
    state["visual_projection.weight"] = clip.visual_projection.weight.detach()
    encoder.load_state_dict(_renormalised(state))
    return encoder.eval().requires_grad_(False)


def _renormalised(state: State) -> State:
    """(p - MEAN) / STD is a slope and a shift of OpenAI's pixels: the patches' weights and places take them in."""
    patch, place = (
        f"vision_model.embeddings.{name}.weight" for name in ("patch_embedding", "position_embedding")
    )
    mean, std = torch.tensor(OPENAI_CLIP_MEAN), torch.tensor(OPENAI_CLIP_STD)
    slope, shift = std / torch.tensor(STD), (mean - torch.tensor(MEAN)) / torch.tensor(STD)
    weight, places = state[patch], state[place].clone()
    places[1:] += (weight * shift[:, None, None]).sum(
        (1, 2, 3)
    )  # the first is the class token, which sees no pixel
    return {**state, patch: weight * slope[:, None, None], place: places}
