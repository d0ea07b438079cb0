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
from pipelines.spec.families.file_parts import FLUX_PARTS
from pipelines.spec.families.layers import Conditions, Layer, has, lacks, shown, wide
from pipelines.spec.families.signs import Signs, Variant
from pipelines.spec.families.unet_layers import kl_vae
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

# By the names of Black Forest Labs, which GGUF keeps, and of diffusers. Chroma and FLUX.2 have the same blocks and no
# pooled text; Qwen-Image has no single blocks.
_GUIDED = ("guidance_in.in_layer.weight", "time_text_embed.guidance_embedder.linear_1.weight")
_IMAGE = ("img_in.weight", "x_embedder.weight")
_BFL = (
    has("double_blocks.#.img_attn.norm.key_norm.scale", "double_blocks.#.img_attn.qkv.weight"),
    has("vector_in.in_layer.weight"),
    has("txt_in.weight"),
)
_DIFFUSERS = (
    has("transformer_blocks.#.attn.norm_added_k.weight", "transformer_blocks.#.attn.add_k_proj.weight"),
    has("time_text_embed.text_embedder.linear_1.weight"),
    has("context_embedder.weight"),
    lacks("pos_embed.proj.weight"),
)
# A LoRA's layers. FLUX.2's are wider, or 3072 wide too with a gate in each MLP: nine widths out of linear1, not seven.
_WIDTH = 3072
_BFL_BLOCKS = ("double_blocks_#_*", "single_blocks_#_*")
_BFL_TELL = (
    "double_blocks_#_img_attn_qkv",
    "double_blocks_#_txt_attn_qkv",
    "double_blocks_#_img_attn_proj",
    "double_blocks_#_processor_qkv*",
    "single_blocks_#_linear1",
    "single_blocks_#_modulation_lin",
)
_OWN_NAMES = (
    "single_transformer_blocks_#_*",
    "transformer_blocks_#_norm1_linear",
    "transformer_blocks_#_norm1_context_linear",
    "transformer_blocks_#_ff_context_net_*",
)
_OWN_TELL = (
    "*transformer_blocks_#_attn_to_q",
    "*transformer_blocks_#_attn_to_k",
    "*transformer_blocks_#_attn_to_v",
    "single_transformer_blocks_#_proj_mlp",
    "transformer_blocks_#_norm1_linear",
    "transformer_blocks_#_ff_context_net_0_proj",
)
_LORA: tuple[Conditions, ...] = (
    (
        wide(_BFL_TELL, 1, _WIDTH),
        Layer(names=_BFL_BLOCKS),
        lacks("*stream_modulation*", "*img_attn_q", "*distilled_guidance_layer*"),
    ),
    (has(*_BFL_BLOCKS), lacks(*_BFL_TELL), lacks("*stream_modulation*", "*cross_attn*")),
    (has(*_OWN_NAMES), wide(_OWN_TELL, 1, _WIDTH), lacks("*to_qkv_mlp_proj")),
    (has(*_OWN_NAMES), lacks(*_OWN_TELL, "*to_qkv_mlp_proj")),
)
_TEXT_ONLY = "cannot be used yet; FLUX.1 dev and schnell can."
_KONTEXT = f"FLUX.1 Kontext {_TEXT_ONLY}"
_VARIANTS = (
    Variant(
        id="fill",
        denoiser=(shown(_IMAGE, 1, 384),),
        classes=frozenset({"FluxFillPipeline"}),
        problem=f"FLUX.1 Fill {_TEXT_ONLY}",
    ),
    *(
        Variant(
            id=word or "control",
            denoiser=(shown(_IMAGE, 1, 128),),
            classes=frozenset({"FluxControlPipeline"}),
            words=(word,) if word else (),
            problem=f"FLUX.1 {word.capitalize() or 'Control'} {_TEXT_ONLY}",
        )
        for word in ("depth", "canny", "")
    ),
    Variant(id="kontext", classes=frozenset({"FluxKontextPipeline"}), problem=_KONTEXT),
    Variant(id="kontext", words=("kontext",), problem=_KONTEXT),  # its layers are those of dev
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
    signs=Signs(
        denoiser=((*_BFL, has(*_GUIDED)), (*_DIFFUSERS, has(*_GUIDED))),
        vae=(kl_vae(16),),
        lora=_LORA,
        architectures=("flux",),
        needs=("vae", "clip_l", "t5xxl"),
        variants=_VARIANTS,
        plain="dev",
        guidance="distilled",
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
    work=74.4e12,
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
    file_parts=FLUX_PARTS,
    lent_words=("tokenizer_2",),
)

FLUX_SCHNELL = replace(
    FLUX_DEV,
    id="flux-schnell",
    name="FLUX.1 schnell",
    work=69.5e12,
    # A config that is silent means False.
    detect=(KeyCondition(part="transformer", key="guidance_embeds", among=(False,)),),
    signs=replace(
        FLUX_DEV.signs,
        denoiser=((*_BFL, lacks(*_GUIDED)), (*_DIFFUSERS, lacks(*_GUIDED))),
        plain="schnell",
        guidance="",
    ),
    max_sequence_length=256,
    sampling=Sampling(scheduler="flow_euler", num_inference_steps=4, guidance_scale=1.0),
    supports=FLUX_DEV.supports - {Feature.GUIDANCE},
)
