"""The hyper-parameters of the published models, part by part, and the parameters that they must come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CLIP_VOCABULARY, T5_VOCABULARY = 49408, 32128


@dataclass(frozen=True)
class Part:
    """One folder of a model: `library` and `class_name` as in model_index.json, `config` the class's arguments."""

    library: str
    class_name: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrueSize:
    """`millions` of parameters of each part that has weights, as measured on the published configs."""

    name: str
    class_name: str
    parts: Mapping[str, Part]
    millions: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    runs: tuple[str, ...] = ()  # what --run adds to `main.py generate`


def _clip(hidden: int, layers: int, heads: int, act: str, projection: int, with_projection: bool) -> Part:
    return Part(
        "transformers",
        "CLIPTextModelWithProjection" if with_projection else "CLIPTextModel",
        {
            "vocab_size": CLIP_VOCABULARY, "hidden_size": hidden, "intermediate_size": 4 * hidden,
            "num_hidden_layers": layers, "num_attention_heads": heads, "max_position_embeddings": 77,
            "hidden_act": act, "projection_dim": projection, "bos_token_id": 49406, "eos_token_id": 49407,
            "pad_token_id": 1,
        },
    )  # fmt: skip


def _vae(channels: int = 4, **more: Any) -> Part:
    config = {
        "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
        "sample_size": 1024,
    }  # fmt: skip
    return Part("diffusers", "AutoencoderKL", config | more)


_CLIP_L = _clip(768, 12, 12, "quick_gelu", 768, False)
_BIG_G = _clip(1280, 32, 20, "gelu", 1280, True)
_CLIP_TOKENIZER = Part("transformers", "CLIPTokenizer")
_BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
_SD_SCHEDULER = Part(
    "diffusers", "PNDMScheduler", {**_BETAS, "skip_prk_steps": True, "set_alpha_to_one": False}
)
_XL_SCHEDULER = Part("diffusers", "EulerDiscreteScheduler", {**_BETAS, "timestep_spacing": "leading"})


def _unet(**config: Any) -> Part:
    return Part("diffusers", "UNet2DConditionModel", {"layers_per_block": 2, **config})


SD15 = TrueSize(
    name="sd15",
    class_name="StableDiffusionPipeline",
    parts={
        "unet": _unet(
            sample_size=64,
            block_out_channels=[320, 640, 1280, 1280],
            cross_attention_dim=768,
            attention_head_dim=8,
            down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
            up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        ),
        "vae": _vae(sample_size=512, scaling_factor=0.18215),
        "text_encoder": _CLIP_L,
        "tokenizer": _CLIP_TOKENIZER,
        "scheduler": _SD_SCHEDULER,
    },
    millions={"unet": 859.5, "vae": 83.7, "text_encoder": 123.1},
    settings={
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    },
    runs=("--size", "256x256", "--steps", "2"),
)

SDXL = TrueSize(
    name="sdxl",
    class_name="StableDiffusionXLPipeline",
    parts={
        "unet": _unet(
            sample_size=128,
            block_out_channels=[320, 640, 1280],
            cross_attention_dim=2048,
            attention_head_dim=[5, 10, 20],
            transformer_layers_per_block=[1, 2, 10],
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
            down_block_types=["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 2,
            up_block_types=["CrossAttnUpBlock2D"] * 2 + ["UpBlock2D"],
        ),
        "vae": _vae(scaling_factor=0.13025, force_upcast=True),
        "text_encoder": _CLIP_L,
        "text_encoder_2": _BIG_G,
        "tokenizer": _CLIP_TOKENIZER,
        "tokenizer_2": _CLIP_TOKENIZER,
        "scheduler": _XL_SCHEDULER,
    },
    millions={"unet": 2567.5, "vae": 83.7, "text_encoder": 123.1, "text_encoder_2": 694.7},
    settings={"force_zeros_for_empty_prompt": True},
    runs=("--size", "512x512", "--steps", "1", "--dtype", "bfloat16"),
)

REFINER = TrueSize(
    name="refiner",
    class_name="StableDiffusionXLImg2ImgPipeline",
    parts={
        "unet": _unet(
            sample_size=128,
            block_out_channels=[384, 768, 1536, 1536],
            cross_attention_dim=1280,
            attention_head_dim=[6, 12, 24, 24],
            transformer_layers_per_block=4,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2560,
            down_block_types=["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 2 + ["DownBlock2D"],
            up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 2 + ["UpBlock2D"],
        ),
        "vae": _vae(scaling_factor=0.13025, force_upcast=True),
        "text_encoder_2": _BIG_G,
        "tokenizer_2": _CLIP_TOKENIZER,
        "scheduler": _XL_SCHEDULER,
    },
    millions={"unet": 2259.5, "vae": 83.7, "text_encoder_2": 694.7},
    settings={
        "text_encoder": [None, None],
        "tokenizer": [None, None],
        "requires_aesthetics_score": True,
        "force_zeros_for_empty_prompt": False,
    },
)

FLUX = TrueSize(
    name="flux",
    class_name="FluxPipeline",
    parts={
        "transformer": Part(
            "diffusers",
            "FluxTransformer2DModel",
            {
                "in_channels": 64,
                "num_layers": 19,
                "num_single_layers": 38,
                "attention_head_dim": 128,
                "num_attention_heads": 24,
                "joint_attention_dim": 4096,
                "pooled_projection_dim": 768,
                "guidance_embeds": True,
                "axes_dims_rope": [16, 56, 56],
            },
        ),
        "vae": _vae(
            16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False
        ),
        "text_encoder": _CLIP_L,
        "text_encoder_2": Part(
            "transformers",
            "T5EncoderModel",
            {
                "vocab_size": T5_VOCABULARY,
                "d_model": 4096,
                "d_kv": 64,
                "d_ff": 10240,
                "num_layers": 24,
                "num_heads": 64,
                "feed_forward_proj": "gated-gelu",
            },
        ),
        "tokenizer": _CLIP_TOKENIZER,
        "tokenizer_2": Part("transformers", "T5Tokenizer"),
        "scheduler": Part(
            "diffusers", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_dynamic_shifting": True}
        ),
    },
    millions={"transformer": 11901.4, "vae": 83.8, "text_encoder": 123.1, "text_encoder_2": 4762.3},
)

MODELS = {size.name: size for size in (SD15, SDXL, REFINER, FLUX)}
