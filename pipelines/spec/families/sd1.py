"""Stable Diffusion 1.x: one CLIP-L encoder, epsilon prediction, 4-channel latents at 1/8 of the size."""

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
from pipelines.spec.families.file_parts import LDM_PARTS, clip
from pipelines.spec.families.layers import Layer, has, lacks
from pipelines.spec.families.signs import Signs
from pipelines.spec.families.unet_layers import (
    CONTEXT,
    FIRST,
    LABEL,
    LORA_AT_THE_FINEST,
    PIX2PIX,
    VIDEO,
    channels,
    inpaint,
    kl_vae,
    lora_by_text,
)
from pipelines.spec.request import Sampling, Size

# Latent to preview colour, the well-known linear map for the SD 1.x VAE (0..1).
_RGB = (
    (0.1745, 0.1043, 0.1195),
    (0.0946, 0.0938, 0.1015),
    (-0.0954, 0.0793, 0.1313),
    (-0.0971, -0.0992, -0.2348),
)

SD1 = Family(
    id="sd1",
    name="Stable Diffusion 1.x",
    classes=frozenset({"StableDiffusionPipeline", "StableDiffusionInpaintPipeline"}),
    # CLIP-L is 768 wide; less is a reduced model, more is SD 2.x or nothing that is known.
    detect=(
        KeyCondition(part="unet", key="cross_attention_dim", least=1, most=768),
        KeyCondition(part="text_encoder", key="hidden_size", least=1, most=768),
        KeyCondition(part="unet", key="in_channels", among=(4, 9)),
    ),
    add_ons=AddOnCondition(
        base="sd1",
        denoiser="unet",
        widths=frozenset({768}),
        words=("sd1", "sd_1", "sd_v1", "sd v1", "sd 1", "stable-diffusion-v1"),
    ),
    signs=Signs(
        denoiser=(
            (has(*FIRST), Layer(names=CONTEXT, axis=1, least=1, most=768), lacks(*LABEL), lacks(*VIDEO)),
        ),
        vae=(kl_vae(4),),
        # Without the text's layers one of SD 2.x looks the same; its metadata may say so.
        lora=(lora_by_text(768), LORA_AT_THE_FINEST),
        architectures=("sd1",),
        needs=("vae", "clip_l"),
        variants=(
            inpaint("StableDiffusionInpaintPipeline"),
            channels("pix2pix", 8, ("StableDiffusionInstructPix2PixPipeline",), PIX2PIX),
        ),
    ),
    pipelines={
        Task.TEXT: "StableDiffusionPipeline",
        Task.IMAGE: "StableDiffusionImg2ImgPipeline",
        Task.CONTROL: "StableDiffusionControlNetPipeline",
    },
    text=TextScheme.CLIP,
    latent=LatentFormat(space="sd", channels=4, scale=8, rgb=_RGB, rgb_bias=(0.5, 0.5, 0.5)),
    prediction=Prediction.EPSILON,
    sampling=Sampling(scheduler="dpmpp_2m_karras", num_inference_steps=20, guidance_scale=7.0),
    size=Size(width=512, height=512),
    sizes=SizeRule(step=8, minimum=64, maximum=2048, native=512),
    work=0.80e12,
    supports=frozenset(
        {
            Feature.NEGATIVE_PROMPT,
            Feature.GUIDANCE,
            Feature.LORA,
            Feature.CONTROL,
            Feature.EMBEDDING,
            Feature.IP_ADAPTER,
        }
    ),
    required_parts=("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    file_parts={**LDM_PARTS, "text_encoder": clip("cond_stage_model.transformer.")},
    fixed={"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    # StableDiffusionPipeline forces both upon every scheduler, warning unless they are there already.
    scheduler={"steps_offset": 1, "clip_sample": False},
)
