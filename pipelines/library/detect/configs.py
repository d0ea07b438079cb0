"""The config.json of a diffusers network as the layers that it will have, so that one set of conditions tells both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.library.detect.tensors import Tensors

Shape = tuple[int, ...]


def layers_of(config: Mapping[str, Any]) -> Tensors:
    """Of a denoiser or a ControlNet; none for a class that is not known. A side that the config leaves out is 0."""
    name = str(config.get("_class_name"))
    if name in ("UNet2DConditionModel", "ControlNetModel"):
        return Tensors(_unet(config))
    if name in ("FluxTransformer2DModel", "FluxControlNetModel"):
        return Tensors(_flux(config))
    return Tensors({})


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _unet(config: Mapping[str, Any]) -> dict[str, Shape]:
    widths = config.get("block_out_channels")
    width = _number(widths[0]) if isinstance(widths, list) and widths else 0
    attention = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    layers = {
        "conv_in.weight": (width, _number(config.get("in_channels")), 3, 3),
        attention: (width, _number(config.get("cross_attention_dim"))),
    }
    if config.get("addition_embed_type") == "text_time":
        label = _number(config.get("projection_class_embeddings_input_dim"))
        layers["add_embedding.linear_1.weight"] = (0, label)
    if config.get("num_class_embeds"):
        layers["class_embedding.weight"] = (_number(config["num_class_embeds"]), 0)
    if config.get("class_embed_type") == "projection":
        layers["class_embedding.linear_1.weight"] = (0, 0)
    return layers


def _flux(config: Mapping[str, Any]) -> dict[str, Shape]:
    layers = {
        "x_embedder.weight": (0, _number(config.get("in_channels"))),
        "context_embedder.weight": (0, _number(config.get("joint_attention_dim"))),
        "time_text_embed.text_embedder.linear_1.weight": (0, _number(config.get("pooled_projection_dim"))),
        "transformer_blocks.0.attn.add_k_proj.weight": (0, 0),
    }
    if config.get("guidance_embeds") is True:
        layers["time_text_embed.guidance_embedder.linear_1.weight"] = (0, 0)
    return layers
