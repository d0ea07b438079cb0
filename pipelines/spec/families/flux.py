"""FLUX.1: a transformer over latents in 2x2 tokens, CLIP-L's pooled output and T5 for the text, flow matching.

The schedule's shift is the model's own: its scheduler config says whether it moves with the size. [dev] has guidance
distilled into it, an embedding and no second call; [schnell] was distilled further and takes neither.
"""

from dataclasses import replace

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
from pipelines.spec.request import Sampling, Size

# Latent to preview colour in 0..1: the known factors (Comfy-Org/ComfyUI: comfy/latent_formats.py), which map to -1..1.
_RGB = (
    (-0.0173, 0.0122, 0.03405),
    (0.0017, 0.0105, 0.03435),
    (0.01375, -0.0334, -0.02165),
    (-0.0087, 0.008, 0.03085),
    (0.04295, 0.03605, 0.01645),
    (0.0002, 0.01915, 0.00575),
    (0.02025, 0.04305, 0.04575),
    (-0.0118, -0.00925, -0.01295),
    (-0.01225, 0.0125, 0.059),
    (0.0504, 0.03775, -0.02105),
    (-0.02575, 0.01005, 0.00055),
    (0.0214, -0.0006, -0.0018),
    (0.04085, 0.03825, 0.03745),
    (-0.0632, -0.0261, -0.05515),
    (-0.014, -0.04405, -0.02495),
    (-0.0631, -0.0491, -0.0389),
)

FLUX_DEV = Family(
    id="flux",
    name="FLUX.1 dev",
    classes=frozenset({"FluxPipeline"}),
    detect=(KeyCondition(part="transformer", key="guidance_embeds", among=(True,)),),
    # [schnell] takes the same ones: distilling left the layers as they were.
    add_ons=AddOnCondition(
        base="flux",
        denoiser="transformer",
        widths=frozenset({3072}),
        words=("flux1", "flux_1", "flux-1", "flux.1", "flux"),
    ),
    pipelines={
        Task.TEXT: "FluxPipeline",
        Task.IMAGE: "FluxImg2ImgPipeline",
        Task.CONTROL: "FluxControlNetPipeline",
    },
    control_image="control_image",
    text=TextScheme.CLIP_T5,
    denoiser="transformer",
    counted="tokenizer_2",
    max_sequence_length=512,
    latent=LatentFormat(
        space="flux", channels=16, scale=8, patch=2, rgb=_RGB, rgb_bias=(0.48355, 0.4641, 0.45745)
    ),
    prediction=Prediction.FLOW,
    half="bfloat16",
    sampling=Sampling(scheduler="flow_euler", num_inference_steps=28, guidance_scale=3.5),
    size=Size(width=1024, height=1024),
    sizes=SizeRule(step=16, minimum=64, maximum=2048, native=1024),
    supports=frozenset(
        {Feature.GUIDANCE, Feature.NEGATIVE_PROMPT, Feature.TRUE_CFG, Feature.LORA, Feature.CONTROL}
    ),
    required_parts=(
        "transformer",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
    ),
)

FLUX_SCHNELL = replace(
    FLUX_DEV,
    id="flux-schnell",
    name="FLUX.1 schnell",
    # A config that is silent means False.
    detect=(KeyCondition(part="transformer", key="guidance_embeds", among=(False,)),),
    max_sequence_length=256,
    sampling=Sampling(scheduler="flow_euler", num_inference_steps=4, guidance_scale=1.0),
    supports=FLUX_DEV.supports - {Feature.GUIDANCE},
)
