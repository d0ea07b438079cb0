"""Families that are recognised and not supported: their files are named as what they are, never as a relative.

By the layers that the published code of each gives its network; `lora` where their LoRAs could be taken for another's.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.spec.families.layers import has, lacks, shown, wide
from pipelines.spec.families.signs import Signs
from pipelines.spec.families.unet_layers import CONTEXT, FIRST, LABEL, VIDEO, context


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    id: str
    name: str
    signs: Signs


def _other(
    name: str,
    *denoiser: tuple,
    id: str = "",
    classes: tuple[str, ...] = (),
    gguf: tuple[str, ...] = (),
    **more,
) -> Other:
    signs = Signs(denoiser=denoiser, classes=frozenset(classes), architectures=gguf, **more)
    return Other(id=id or name.lower().replace(" ", "-"), name=name, signs=signs)


_FLUX2_MODULATION = ("double_stream_modulation_img.lin.weight", "double_stream_modulation_img.linear.weight")
_BLOCK_QKV = ("double_blocks_#_img_attn_qkv", "double_blocks_#_txt_attn_qkv", "single_blocks_#_linear1")
_NEXT_DIT = (
    has("cap_embedder.1.weight", "cap_embedder.1.bias"),
    has("noise_refiner.#.attention.qkv.weight", "noise_refiner.#.attention.to_q.weight"),
)
_MODEL_QKV = "model.layers.#.self_attn.q_proj.weight"

OTHERS: tuple[Other, ...] = (
    _other(
        "Stable Diffusion 3",
        (has("joint_blocks.#.context_block.attn.qkv.weight"),),
        (
            has("transformer_blocks.#.attn.add_k_proj.weight"),
            has("pos_embed.proj.weight"),
            has("context_embedder.weight"),
        ),
        id="sd3",
        classes=("StableDiffusion3Pipeline", "SD3Transformer2DModel", "StableDiffusion3Img2ImgPipeline"),
        gguf=("sd3",),
        lora=(
            (has("joint_blocks_#_*"),),
            (shown(("transformer_blocks_#_attn_to_q", "transformer_blocks_#_attn_to_k"), 1, 1536, 2432),),
        ),
    ),
    _other(
        "FLUX.2",
        (has(*_FLUX2_MODULATION),),
        id="flux2",
        classes=("Flux2Pipeline", "Flux2KleinPipeline", "Flux2Transformer2DModel", "AutoencoderKLFlux2"),
        gguf=("flux2",),
        vae=((has("bn.running_mean"), wide("decoder.conv_in.weight", 1, 32)),),
        lora=(
            (has("*stream_modulation*"),),
            (shown(_BLOCK_QKV, 1, 4096, 6144),),
            (shown("single_blocks_#_linear1", 0, 27648),),
            (shown("double_blocks_#_img_mlp_0", 0, 18432, 24576, 36864),),
            (has("single_transformer_blocks_#_attn_to_qkv_mlp_proj"),),
        ),
    ),
    _other(
        "Qwen-Image",
        (has("transformer_blocks.#.img_mlp.net.0.proj.weight"), has("txt_norm.weight")),
        classes=(
            "QwenImagePipeline",
            "QwenImageEditPipeline",
            "QwenImageTransformer2DModel",
            "AutoencoderKLQwenImage",
        ),
        gguf=("qwen_image",),
        # FLUX's LoRAs have single blocks beside these, or layers of its own in them.
        lora=(
            (
                has(
                    "transformer_blocks_#_img_mlp_*",
                    "transformer_blocks_#_txt_mlp_*",
                    "transformer_blocks_#_img_mod_*",
                ),
            ),
            (
                shown(
                    (
                        "transformer_blocks_#_attn_to_q",
                        "transformer_blocks_#_attn_to_k",
                        "transformer_blocks_#_attn_to_v",
                    ),
                    1,
                    3072,
                ),
                lacks(
                    "single_transformer_blocks_#_*",
                    "transformer_blocks_#_norm1_*",
                    "transformer_blocks_#_ff_*",
                    "*attn2*",
                ),
            ),
        ),
    ),
    _other(
        "Z-Image",
        (*_NEXT_DIT, has("x_pad_token")),
        classes=("ZImagePipeline", "ZImageTransformer2DModel"),
        gguf=("z_image", "zimage"),
        lora=(
            (
                shown(
                    ("layers_#_attention_qkv", "layers_#_attention_to_q", "layers_#_attention_to_k"), 1, 3840
                ),
            ),
        ),
    ),
    _other(
        "Lumina 2",
        (*_NEXT_DIT, lacks("x_pad_token")),
        id="lumina2",
        classes=("Lumina2Pipeline", "Lumina2Text2ImgPipeline", "Lumina2Transformer2DModel"),
        gguf=("lumina2",),
        lora=((shown(("layers_#_attention_qkv", "layers_#_attention_to_q"), 1, 2304),),),
    ),
    _other(
        "Anima",
        (
            has("blocks.#.cross_attn.k_proj.weight"),
            has("llm_adapter.blocks.#.cross_attn.k_proj.weight", "llm_adapter.*"),
        ),
        gguf=("anima",),
        lora=(
            (
                has(
                    "blocks_#_cross_attn_q_proj",
                    "blocks_#_cross_attn_k_proj",
                    "blocks_#_cross_attn_v_proj",
                    "blocks_#_self_attn_q_proj",
                    "blocks_#_self_attn_k_proj",
                    "llm_adapter_*",
                ),
            ),
        ),
    ),
    _other(
        "Cosmos Predict 2",
        (
            has("blocks.#.cross_attn.k_proj.weight"),
            has("blocks.#.adaln_modulation_self_attn.1.weight"),
            lacks("llm_adapter.*"),
        ),
        id="cosmos-predict2",
        classes=("Cosmos2TextToImagePipeline", "CosmosTransformer3DModel"),
        gguf=("cosmos",),
    ),
    _other(
        "Krea 2",
        (has("blocks.#.attn.wq.weight"), has("txtfusion.*")),
        id="krea2",
        gguf=("krea2",),
        lora=(
            (
                has("blocks_#_attn_wq", "blocks_#_attn_wk", "blocks_#_attn_wv", "txtfusion_*"),
                lacks("double_layers_#_*"),
            ),
        ),
    ),
    _other(
        "Chroma",
        (has("distilled_guidance_layer.*"),),
        classes=("ChromaPipeline", "ChromaTransformer2DModel"),
        gguf=("chroma",),
        lora=((has("distilled_guidance_layer_*"),),),
    ),
    _other(
        "HunyuanVideo",
        (has("txt_in.individual_token_refiner.*"),),
        (has("context_embedder.token_refiner.*"),),
        classes=("HunyuanVideoPipeline", "HunyuanVideoTransformer3DModel", "AutoencoderKLHunyuanVideo"),
        gguf=("hyvid", "hunyuan_video"),
        # Its blocks have FLUX's names and width but for the MLP and the modulation.
        lora=(
            (has("*token_refiner*", "double_blocks_#_img_mlp_fc1", "double_blocks_#_img_mod_linear"),),
            (has("double_blocks_#_img_mlp_fc2", "single_blocks_#_modulation_linear"),),
        ),
    ),
    _other(
        "Hunyuan-DiT",
        (has("mlp_t5.0.weight"), has("blocks.#.default_modulation.1.weight")),
        (has("text_embedder.linear_1.weight"), has("blocks.#.skip_linear.weight")),
        classes=("HunyuanDiTPipeline", "HunyuanDiT2DModel"),
        gguf=("hydit",),
    ),
    _other(
        "Wan",
        (has("blocks.#.cross_attn.k.weight"), has("patch_embedding.weight")),
        (has("condition_embedder.text_embedder.linear_1.weight"), has("blocks.#.attn2.to_k.weight")),
        classes=("WanPipeline", "WanImageToVideoPipeline", "WanTransformer3DModel", "AutoencoderKLWan"),
        gguf=("wan",),
        vae=((has("decoder.middle.0.residual.0.gamma", "decoder.mid_block.resnets.0.norm1.gamma"),),),
        lora=(
            (
                has(
                    "blocks_#_cross_attn_k",
                    "blocks_#_cross_attn_q",
                    "blocks_#_self_attn_q",
                    "blocks_#_attn2_to_k",
                ),
                lacks("down_blocks_#_*", "up_blocks_#_*", "mid_block_*"),
            ),
        ),
    ),
    _other(
        "LTX-Video",
        (
            has("adaln_single.linear.weight"),
            has("patchify_proj.weight", "proj_in.weight"),
            has("transformer_blocks.#.attn1.q_norm.weight", "transformer_blocks.#.attn1.norm_q.weight"),
        ),
        classes=("LTXPipeline", "LTXVideoTransformer3DModel", "AutoencoderKLLTXVideo"),
        gguf=("ltxv",),
    ),
    _other(
        "PixArt",
        (has("t_block.1.weight"), has("y_embedder.y_proj.fc1.weight", "y_embedder.y_embedding")),
        (
            has("adaln_single.linear.weight"),
            has("pos_embed.proj.weight"),
            has("caption_projection.linear_1.weight"),
        ),
        classes=("PixArtAlphaPipeline", "PixArtSigmaPipeline", "PixArtTransformer2DModel"),
        gguf=("pixart",),
    ),
    _other(
        "AuraFlow",
        (has("double_layers.#.attn.w1q.weight"),),
        (has("joint_transformer_blocks.#.attn.add_k_proj.weight"),),
        classes=("AuraFlowPipeline", "AuraFlowTransformer2DModel"),
        gguf=("aura",),
        lora=((has("double_layers_#_*", "joint_transformer_blocks_#_*"),),),
    ),
    _other(
        "HiDream",
        (has("double_stream_blocks.#.*"), has("caption_projection.#.linear.weight")),
        classes=("HiDreamImagePipeline", "HiDreamImageTransformer2DModel"),
        gguf=("hidream",),
        lora=((has("double_stream_blocks_#_*"),),),
    ),
    _other(
        "Sana",
        (has("caption_norm.weight", "attention_y_norm.weight"), has("*inverted_conv*", "*conv_inverted*")),
        classes=("SanaPipeline", "SanaTransformer2DModel", "AutoencoderDC"),
    ),
    _other(
        "Stable Cascade",
        (has("clip_txt_pooled_mapper.weight", "clip_txt_mapper.weight"), has("clf.1.weight")),
        classes=(
            "StableCascadeDecoderPipeline",
            "StableCascadePriorPipeline",
            "StableCascadeCombinedPipeline",
            "StableCascadeUNet",
            "WuerstchenDecoderPipeline",
            "PaellaVQModel",
        ),
    ),
    _other(
        "Kolors",
        (has(*FIRST), context(2048), wide(LABEL, 1, 5632)),
        classes=("KolorsPipeline", "KolorsImg2ImgPipeline", "ChatGLMModel"),
    ),
    _other(
        "Stable Video Diffusion",
        (has(*FIRST), has(*CONTEXT), has(*VIDEO)),
        id="svd",
        classes=("StableVideoDiffusionPipeline", "UNetSpatioTemporalConditionModel"),
    ),
    _other(
        "SD x4 upscaler",
        (wide(FIRST, 1, 7), has(*CONTEXT)),
        id="x4-upscaler",
        classes=("StableDiffusionUpscalePipeline", "StableDiffusionLatentUpscalePipeline"),
    ),
    _other(
        "AnimateDiff motion module",
        (has("*motion_modules*"), lacks(*FIRST)),
        id="animatediff",
        classes=("AnimateDiffPipeline", "MotionAdapter"),
    ),
    _other(
        "DeepFloyd IF", (wide(FIRST, 1, 3, 6), lacks(*CONTEXT)), id="deepfloyd-if", classes=("IFPipeline",)
    ),
    _other(
        "Qwen2.5-VL",
        classes=("Qwen2_5_VLForConditionalGeneration",),
        gguf=("qwen2vl", "qwen25vl"),
        text=((has("visual.patch_embed.proj.weight"), has(_MODEL_QKV)),),
    ),
    _other(
        "Qwen3",
        gguf=("qwen3",),
        text=((has("model.layers.#.self_attn.q_norm.weight"), has(_MODEL_QKV)),),
    ),
    _other(
        "Gemma",
        classes=("GemmaModel", "Gemma2Model"),
        gguf=("gemma", "gemma2", "gemma3"),
        text=((has("model.layers.#.pre_feedforward_layernorm.weight"), has(_MODEL_QKV)),),
    ),
    _other(
        "Language model",
        classes=("LlamaForCausalLM", "MistralForCausalLM"),
        gguf=("llama", "mistral", "qwen2", "phi3"),
        text=((has(_MODEL_QKV),), (has("blk.#.attn_q.weight"), has("token_embd.weight"))),
    ),
    _other("UMT5", text=((wide(("shared.weight", "token_embedding.weight"), 0, 256384),),)),
)
