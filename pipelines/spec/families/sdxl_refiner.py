"""The SDXL refiner: finishes SDXL's latents, with OpenCLIP-bigG alone and an aesthetic score instead of a target size.

Podell et al. 2023, "SDXL", section 2.5. It learned the last fifth of the noise only and cannot begin a picture.
"""

from dataclasses import replace

from pipelines.spec.families.base import AddOnCondition, Feature, KeyCondition, Task
from pipelines.spec.families.file_parts import LDM_PARTS, open_clip
from pipelines.spec.families.layers import has, lacks, wide
from pipelines.spec.families.sdxl import SDXL
from pipelines.spec.families.signs import Signs
from pipelines.spec.families.unet_layers import FIRST, LABEL, VIDEO, context, lora_by_depth, lora_by_text

SDXL_REFINER = replace(
    SDXL,
    id="sdxl-refiner",
    work=7.29e12,
    name="SDXL refiner",
    classes=frozenset({"StableDiffusionXLImg2ImgPipeline"}),
    detect=(
        KeyCondition(part="text_encoder", present=False),
        KeyCondition(part="text_encoder_2"),
        KeyCondition(part="unet", key="in_channels", among=(4,)),
    ),
    add_ons=AddOnCondition(
        base="sdxl-refiner",
        denoiser="unet",
        widths=frozenset({1280}),
        words=("sdxl_refiner", "stable-diffusion-xl-v1-refiner"),
    ),
    signs=Signs(
        denoiser=((has(*FIRST), context(1280), wide(LABEL, 1, 2560), lacks(*VIDEO)),),
        lora=(lora_by_text(1280), lora_by_depth(768, 1536)),
        needs=("vae", "clip_g"),
    ),
    pipelines={task: SDXL.pipelines[task] for task in (Task.IMAGE, Task.REFINE)},
    counted="tokenizer_2",
    supports=SDXL.supports - {Feature.REFINER, Feature.LORA, Feature.CONTROL, Feature.IP_ADAPTER}
    | {Feature.AESTHETIC_SCORE},
    required_parts=("unet", "vae", "text_encoder_2", "tokenizer_2", "scheduler"),
    file_parts={**LDM_PARTS, "text_encoder_2": open_clip("conditioner.embedders.0.model.")},
    fixed={**SDXL.fixed, "text_encoder": None, "tokenizer": None},
    settings={"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
)
