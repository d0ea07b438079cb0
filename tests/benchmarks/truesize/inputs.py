"""What a denoiser is called with: random latents and text of the sizes that its config tells, on any device."""

from __future__ import annotations

from typing import Any

import torch

Inputs = dict[str, Any]
SIZE_NUMBERS = 6  # original, crop and target, two each (SDXL)


def inputs_for(
    network: Any, side: int, tokens: int, like: torch.Tensor, generator: torch.Generator
) -> Inputs:
    """Of one step at `side` pixels: two branches for a U-Net, one for FLUX. Device and precision are those of `like`.

    The generator is the processor's, so that every device gets the same numbers.
    """

    def noise(*shape: int) -> torch.Tensor:
        if like.is_meta:
            return torch.empty(shape, device="meta", dtype=like.dtype)
        return torch.randn(shape, generator=generator).to(like.device, like.dtype)

    config = network.config
    if type(network).__name__ == "FluxTransformer2DModel":
        cells = side // 16
        return {
            "hidden_states": noise(1, cells * cells, config.in_channels),
            "encoder_hidden_states": noise(1, tokens, config.joint_attention_dim),
            "pooled_projections": noise(1, config.pooled_projection_dim),
            "timestep": torch.full((1,), 0.5, device=like.device, dtype=like.dtype),
            "guidance": torch.full((1,), 3.5, device=like.device) if config.guidance_embeds else None,
            "img_ids": _places(cells, like.device),
            "txt_ids": torch.zeros(tokens, 3, device=like.device),
        }
    found: Inputs = {
        "sample": noise(2, config.in_channels, side // 8, side // 8),
        "timestep": torch.full((2,), 500, device=like.device),
        "encoder_hidden_states": noise(2, tokens, config.cross_attention_dim),
    }
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - SIZE_NUMBERS * config.addition_time_embed_dim
        sizes = torch.full((2, SIZE_NUMBERS), float(side), device=like.device, dtype=like.dtype)
        found["added_cond_kwargs"] = {"text_embeds": noise(2, pooled), "time_ids": sizes}
    return found


def _places(cells: int, device: torch.device) -> torch.Tensor:
    """Row and column of each cell of the picture. [cells * cells, 3]"""
    rows = torch.arange(cells, device=device).repeat_interleave(cells)
    columns = torch.arange(cells, device=device).repeat(cells)
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=1).float()
