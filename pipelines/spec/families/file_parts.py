"""The parts of a model in single files: whose names their tensors have, and what stands before them.

A checkpoint holds all of them; a denoiser alone takes the others out of files of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Spelling(StrEnum):
    """Who named the tensors of a part; how they are translated is in `runtime/single_file.py`."""

    LDM_UNET = "ldm_unet"
    LDM_VAE = "ldm_vae"
    CLIP = "clip"  # by transformers
    OPEN_CLIP = "open_clip"
    T5 = "t5"  # by transformers
    T5_GGUF = "t5_gguf"  # by llama.cpp
    FLUX = "flux"  # by Black Forest Labs
    LDM_CONTROL = "ldm_control"
    DIFFUSERS = "diffusers"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """`prefix` is what the names begin with in a checkpoint, `class_name` what is built.

    `mark` is the name of a tensor that the part always has, without the prefix: by it a file without any prefix is
    known to be this part. `need` is the word of `Signs.needs` for it, empty for the denoiser. `alone` is the spelling
    in a file of its own, where it is another one; `also` are further marks there, each with its spelling.
    """

    spelling: Spelling
    prefix: str
    class_name: str
    mark: str
    need: str = ""
    alone: Spelling | None = None
    also: tuple[tuple[str, Spelling], ...] = ()


LDM_UNET = FilePart(
    spelling=Spelling.LDM_UNET,
    prefix="model.diffusion_model.",
    class_name="UNet2DConditionModel",
    mark="input_blocks.0.0.weight",
)


def ldm_vae(prefix: str = "first_stage_model.") -> FilePart:
    return FilePart(
        spelling=Spelling.LDM_VAE,
        prefix=prefix,
        class_name="AutoencoderKL",
        mark="decoder.conv_in.weight",
        need="vae",
    )


LDM_CONTROL = FilePart(
    spelling=Spelling.LDM_CONTROL,
    prefix="control_model.",
    class_name="ControlNetModel",
    mark="input_hint_block.0.weight",
)
# By themselves, in diffusers' names.
CONTROL = FilePart(
    spelling=Spelling.DIFFUSERS,
    prefix="",
    class_name="ControlNetModel",
    mark="controlnet_cond_embedding.conv_in.weight",
)
FLUX_CONTROL = FilePart(
    spelling=Spelling.DIFFUSERS,
    prefix="",
    class_name="FluxControlNetModel",
    mark="controlnet_x_embedder.weight",
)
CONTROLS = (LDM_CONTROL, CONTROL, FLUX_CONTROL)


LDM_PARTS = {"unet": LDM_UNET, "vae": ldm_vae()}
_CLIP_MARK = "text_model.embeddings.token_embedding.weight"


def clip(prefix: str) -> FilePart:
    return FilePart(
        spelling=Spelling.CLIP, prefix=prefix, class_name="CLIPTextModel", mark=_CLIP_MARK, need="clip_l"
    )


def open_clip(prefix: str, class_name: str = "CLIPTextModelWithProjection", need: str = "clip_g") -> FilePart:
    """In files of their own they have transformers' names."""
    return FilePart(
        spelling=Spelling.OPEN_CLIP, prefix=prefix, class_name=class_name, mark=_CLIP_MARK, need=need,
        alone=Spelling.CLIP,
    )  # fmt: skip


FLUX_PARTS = {
    "transformer": FilePart(
        spelling=Spelling.FLUX,
        prefix="model.diffusion_model.",
        class_name="FluxTransformer2DModel",
        mark="double_blocks.0.img_attn.qkv.weight",
    ),
    "vae": ldm_vae("vae."),
    "text_encoder": clip("text_encoders.clip_l.transformer."),
    "text_encoder_2": FilePart(
        spelling=Spelling.T5,
        prefix="text_encoders.t5xxl.transformer.",
        class_name="T5EncoderModel",
        mark="encoder.block.0.layer.0.SelfAttention.q.weight",
        need="t5xxl",
        also=(("enc.blk.0.attn_q.weight", Spelling.T5_GGUF),),
    ),
}
