"""The names that the U-Nets of Stable Diffusion give their layers: in one file (LDM, SGM) and by diffusers."""

from __future__ import annotations

from pipelines.spec.families.layers import Conditions, Layer, has, lacks, shown, wide
from pipelines.spec.families.signs import Variant

# [width, what goes in, 3, 3]: the latents, and what is put beside them.
FIRST = ("input_blocks.0.0.weight", "conv_in.weight")
# [width, width of the text]
CONTEXT = (
    "input_blocks.#.#.transformer_blocks.#.attn2.to_k.weight",
    "down_blocks.#.attentions.#.transformer_blocks.#.attn2.to_k.weight",
    "middle_block.#.transformer_blocks.#.attn2.to_k.weight",
    "mid_block.attentions.#.transformer_blocks.#.attn2.to_k.weight",
)
# [width, sizes and pooled text]
LABEL = ("label_emb.0.0.weight", "add_embedding.linear_1.weight")
# Only of a network that knows time as one more side of the picture.
VIDEO = (
    "*time_stack*",
    "*temporal_transformer_blocks*",
    "*motion_modules*",
    "*temporal_transformer.transformer_blocks*",
    "*time_mixer*",
)

# The layers that a LoRA changes, in kohya's two spellings and in diffusers' own.
UNET_LORA = (
    "down_blocks_#_*",
    "mid_block_*",
    "up_blocks_#_*",
    "input_blocks_#_*",
    "middle_block_*",
    "output_blocks_#_*",
)
_TEXT_KEYS = ("*attn2_to_k", "*attn2_to_v", "*attn2_processor_to_k", "*attn2_processor_to_v")
_SELF = ("*attn1_to_q", "*attn1_to_k", "*attn1_to_v", "*attn1_to_out_0")
# SD 1.x and 2.x have one transformer block a place, and some at the finest level; SDXL has the opposite.
_DEEP = ("*_transformer_blocks_1_*", "up_blocks_0_attentions_*", "output_blocks_0_1_*", "output_blocks_1_1_*")
_DEEP += tuple(f"*_transformer_blocks_{place}_*" for place in range(2, 10))
_FINE = (
    "down_blocks_0_attentions_*",
    "input_blocks_1_1_*",
    "up_blocks_3_attentions_*",
    "output_blocks_11_1_*",
)


def context(*sizes: int) -> Layer:
    return wide(CONTEXT, 1, *sizes)


def lora_by_text(*sizes: int) -> Conditions:
    """A LoRA that shows how wide the text is."""
    return has(*UNET_LORA), shown(_TEXT_KEYS, 1, *sizes)


def lora_by_depth(*sizes: int) -> Conditions:
    """One that leaves the text's layers alone: several transformer blocks a place, of these widths."""
    return has(*UNET_LORA), lacks(*_TEXT_KEYS), has(*_DEEP), shown(_SELF, 1, *sizes)


LORA_AT_THE_FINEST = (has(*UNET_LORA), lacks(*_TEXT_KEYS), has(*_FINE), lacks(*_DEEP))


def channels(name: str, count: int, classes: tuple[str, ...], problem: str = "", beside: str = "") -> Variant:
    """A variant whose denoiser takes `count` channels."""
    return Variant(
        id=name,
        denoiser=(shown(FIRST, 1, count),),
        classes=frozenset(classes),
        problem=problem,
        beside=beside,
    )


def inpaint(class_name: str) -> Variant:
    """It takes a mask and a picture of which the mask hides a part, beside the latents."""
    return channels("inpaint", 9, (class_name,), beside="mask")


_NO_PICTURE_YET = "cannot be used yet; a model that draws from text alone can."
PIX2PIX = f"InstructPix2Pix models {_NO_PICTURE_YET}"
DEPTH = f"Models that take a depth map {_NO_PICTURE_YET}"


def kl_vae(latent: int) -> Conditions:
    """The autoencoder of Stable Diffusion and FLUX, by the channels of its latents."""
    return (
        wide("decoder.conv_in.weight", 1, latent),
        has("decoder.up.#.block.#.conv1.weight", "decoder.up_blocks.#.resnets.#.conv1.weight"),
        lacks("bn.running_mean"),
    )
