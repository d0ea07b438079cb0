"""Stable Diffusion XL: CLIP-L and OpenCLIP-bigG side by side, conditioned on sizes and crop as well.

Podell et al. 2023, "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis".
"""

from pipelines.spec.families.base import (
    AddOnCondition,
    Family,
    Feature,
    KeyCondition,
    LatentFormat,
    Prediction,
    SizeRule,
    Task,
    TextScheme,
)
from pipelines.spec.families.file_parts import LDM_PARTS, clip, open_clip
from pipelines.spec.families.layers import has, lacks, wide
from pipelines.spec.families.signs import Signs, Variant
from pipelines.spec.families.unet_layers import (
    FIRST,
    LABEL,
    PIX2PIX,
    VIDEO,
    channels,
    context,
    inpaint,
    kl_vae,
    lora_by_depth,
    lora_by_text,
)
from pipelines.spec.request import Sampling, Size

# Latent to preview colour in 0..1: the known factors (Comfy-Org/ComfyUI: comfy/latent_formats.py), which map to -1..1.
_RGB = (
    (0.18255, 0.2116, 0.21705),
    (-0.12665, -0.0021, 0.0534),
    (0.0538, 0.05555, -0.0181),
    (-0.15825, -0.1246, -0.1094),
)
LATENT = LatentFormat(
    space="sdxl", channels=4, scale=8, upcast=True, rgb=_RGB, rgb_bias=(0.5542, 0.49125, 0.49945)
)

SDXL = Family(
    id="sdxl",
    name="Stable Diffusion XL",
    # A base model that was saved from an image-to-image pipeline is the same model.
    classes=frozenset(
        {"StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"}
    ),
    detect=(
        KeyCondition(part="text_encoder"),
        KeyCondition(part="unet", key="in_channels", among=(4, 9)),
        KeyCondition(part="unet", key="cross_attention_dim", other_than=(1280,)),  # the refiner's
    ),
    add_ons=AddOnCondition(
        base="sdxl",
        denoiser="unet",
        widths=frozenset({2048}),
        words=("sdxl_base", "sdxl base", "sdxl_1", "sdxl 1", "sdxl", "stable-diffusion-xl-v1-base"),
    ),
    signs=Signs(
        # A small one has no attention at all; what it knows of sizes tells then.
        denoiser=(
            (has(*FIRST), context(2048), wide(LABEL, 1, 2816), lacks(*VIDEO)),
            (has(*FIRST), wide(LABEL, 1, 2816), lacks("*attn2*"), lacks(*VIDEO)),
        ),
        vae=(kl_vae(4),),
        lora=(lora_by_text(2048), lora_by_depth(640, 1280)),
        architectures=("sdxl",),
        needs=("vae", "clip_l", "clip_g"),
        variants=(
            inpaint("StableDiffusionXLInpaintPipeline"),
            channels("pix2pix", 8, ("StableDiffusionXLInstructPix2PixPipeline",), PIX2PIX),
            Variant(
                id="edm",
                marks=(has("edm_mean", "edm_vpred.sigma_max"),),
                scheduler="EDM",
                problem="Models in the EDM formulation cannot be used: drawn as plain SDXL they give wrong pictures.",
            ),
        ),
    ),
    pipelines={
        Task.TEXT: "StableDiffusionXLPipeline",
        Task.IMAGE: "StableDiffusionXLImg2ImgPipeline",
        Task.CONTROL: "StableDiffusionXLControlNetPipeline",
        Task.REFINE: "StableDiffusionXLImg2ImgPipeline",
    },
    text=TextScheme.CLIP_CLIP,
    latent=LATENT,
    prediction=Prediction.EPSILON,
    sampling=Sampling(scheduler="dpmpp_2m_karras", num_inference_steps=25, guidance_scale=6.0),
    size=Size(width=1024, height=1024),
    sizes=SizeRule(step=8, minimum=64, maximum=2048, native=1024),
    work=6.76e12,
    supports=frozenset(
        {
            Feature.NEGATIVE_PROMPT,
            Feature.GUIDANCE,
            Feature.SIZE_CONDITIONING,
            Feature.REFINER,
            Feature.LORA,
            Feature.CONTROL,
            Feature.IP_ADAPTER,
        }
    ),
    required_parts=(
        "unet",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
    ),
    file_parts={
        **LDM_PARTS,
        "text_encoder": clip("conditioner.embedders.0.transformer."),
        "text_encoder_2": open_clip("conditioner.embedders.1.model."),
    },
    fixed={"add_watermarker": False},
    settings={"force_zeros_for_empty_prompt": True},
)
