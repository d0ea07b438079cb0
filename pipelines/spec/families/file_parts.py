"""The parts of a checkpoint in one file: whose names their tensors have, and what stands before them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Spelling(StrEnum):
    """Who named the tensors of a part; how they are translated is in `runtime/single_file.py`."""

    LDM_UNET = "ldm_unet"
    LDM_VAE = "ldm_vae"
    CLIP = "clip"  # by transformers
    OPEN_CLIP = "open_clip"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """`prefix` is what the names begin with in the file, `class_name` what is built."""

    spelling: Spelling
    prefix: str
    class_name: str


LDM_PARTS = {
    "unet": FilePart(
        spelling=Spelling.LDM_UNET, prefix="model.diffusion_model.", class_name="UNet2DConditionModel"
    ),
    "vae": FilePart(spelling=Spelling.LDM_VAE, prefix="first_stage_model.", class_name="AutoencoderKL"),
}


def clip(prefix: str) -> FilePart:
    return FilePart(spelling=Spelling.CLIP, prefix=prefix, class_name="CLIPTextModel")


def open_clip(prefix: str, class_name: str = "CLIPTextModelWithProjection") -> FilePart:
    return FilePart(spelling=Spelling.OPEN_CLIP, prefix=prefix, class_name=class_name)
