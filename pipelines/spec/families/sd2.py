"""Stable Diffusion 2.x: SD 1.x with OpenCLIP-H as its encoder, 1024 wide, and mostly v-prediction.

The prompt is read at the encoder's penultimate layer. A diffusers folder has the last of the 24 layers cut off
(num_hidden_layers 23 in text_encoder/config.json), so the scheme is SD 1.x's own. What a model predicts is in its
scheduler's config: 'epsilon' for the 512 "base" models, 'v_prediction' for the 768 ones.
"""

from dataclasses import replace

from pipelines.spec.families.base import AddOnCondition, KeyCondition, Prediction, SizeRule
from pipelines.spec.families.file_parts import LDM_PARTS, open_clip
from pipelines.spec.families.layers import has, lacks
from pipelines.spec.families.sd1 import SD1
from pipelines.spec.families.signs import Signs, Variant
from pipelines.spec.families.unet_layers import (
    DEPTH,
    FIRST,
    LABEL,
    VIDEO,
    channels,
    context,
    inpaint,
    kl_vae,
    lora_by_text,
)
from pipelines.spec.request import Sampling, Size

SD2 = replace(
    SD1,
    id="sd2",
    name="Stable Diffusion 2.x",
    detect=(
        KeyCondition(part="unet", key="cross_attention_dim", among=(1024,)),
        KeyCondition(part="text_encoder", key="hidden_size", among=(1024,)),
        KeyCondition(part="unet", key="in_channels", among=(4, 9)),
    ),
    add_ons=AddOnCondition(
        base="sd2",
        denoiser="unet",
        widths=frozenset({1024}),
        words=("sd2", "sd_2", "sd_v2", "sd v2", "sd 2", "stable-diffusion-v2"),
    ),
    signs=Signs(
        denoiser=(
            (has(*FIRST), context(1024), lacks("label_emb.weight", "class_embedding.weight"), lacks(*VIDEO)),
        ),
        vae=(kl_vae(4),),
        lora=(lora_by_text(1024),),
        needs=("vae", "clip_h"),
        variants=(
            Variant(
                id="unclip",
                denoiser=(has(*LABEL, "class_embedding.linear_1.weight"),),
                classes=frozenset({"StableUnCLIPPipeline", "StableUnCLIPImg2ImgPipeline"}),
                problem="unCLIP models, which draw from an image's embedding, cannot be used.",
            ),
            inpaint("StableDiffusionInpaintPipeline"),
            channels("depth", 5, ("StableDiffusionDepth2ImgPipeline",), DEPTH),
        ),
        unsure=True,
        hints=(
            ("512", Prediction.EPSILON),
            ("base", Prediction.EPSILON),
            ("inpaint", Prediction.EPSILON),
            ("768", Prediction.V),
        ),
    ),
    prediction=Prediction.V,
    sampling=Sampling(scheduler="dpmpp_2m_karras", num_inference_steps=25, guidance_scale=7.5),
    size=Size(width=768, height=768),
    sizes=SizeRule(step=8, minimum=64, maximum=2048, native=768),
    work=2.15e12,
    file_parts={**LDM_PARTS, "text_encoder": open_clip("cond_stage_model.model.", "CLIPTextModel", "clip_h")},
)
