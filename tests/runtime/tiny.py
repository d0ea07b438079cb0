"""A tiny model with random weights for each family: the real classes and tokenizers, a folder as diffusers saves it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.library.models import scan
from pipelines.spec.families.base import Family
from pipelines.spec.record import ModelRecord
from tests.runtime.conftest import INDEX, SIDE, make_tiny, make_tokenizer

CLASSES = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
}
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TIME_WIDTH = 8


def written(folder: Path, family: Family) -> ModelRecord:
    """The record of the family's tiny model, as the library finds it in `folder`."""
    import torch

    path = folder / family.id
    with torch.random.fork_rng():
        torch.manual_seed(0)
        TINY[family.id](path)
    (path / "emulsion.json").write_text(json.dumps({"family": family.id, "native_size": SIDE}))
    (record,) = scan([path])
    assert not record.problem, record.problem
    return replace(record, sampling=None)


@dataclass(frozen=True)
class Text:
    """Sizes of one tiny CLIP encoder; `projection` 0 for one without."""

    width: int = 16
    projection: int = 0
    layers: int = 2


def clip(folder: Path, number: str = "", text: Text = Text()) -> None:
    """text_encoder and tokenizer, or those with a 2 behind them."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    words = make_tokenizer(folder / f"tokenizer{number}")
    config = CLIPTextConfig(
        vocab_size=words, hidden_size=text.width, intermediate_size=32, num_hidden_layers=text.layers,
        num_attention_heads=2, max_position_embeddings=77, projection_dim=text.projection or text.width,
        bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=words - 1, initializer_factor=8.0,
    )  # fmt: skip
    encoder = (CLIPTextModelWithProjection if text.projection else CLIPTextModel)(config)
    encoder.half().save_pretrained(folder / f"text_encoder{number}")


def unet(folder: Path, **changes: Any) -> None:
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": 8, "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "attention_head_dim": 2,
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 16,
    }  # fmt: skip
    UNet2DConditionModel(**settings | changes).half().save_pretrained(folder / "unet")


def vae(folder: Path, **changes: Any) -> None:
    from diffusers import AutoencoderKL

    settings = {
        "sample_size": SIDE, "block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    }  # fmt: skip
    model: Any = AutoencoderKL.from_config(settings | changes)
    model.half().save_pretrained(folder / "vae")


def index(folder: Path, class_name: str, listed: Mapping[str, Any], more: Mapping[str, Any] = {}) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": class_name, **listed, **more}))


def sd2(folder: Path) -> None:
    from diffusers import DDIMScheduler

    clip(folder)
    unet(folder, use_linear_projection=True, attention_head_dim=(2, 4))
    vae(folder)
    DDIMScheduler(**BETAS, prediction_type="v_prediction", steps_offset=1, clip_sample=False).save_pretrained(
        folder / "scheduler"
    )
    (folder / "model_index.json").write_text(json.dumps(INDEX))


def sdxl(folder: Path) -> None:
    _xl(folder, widths=(Text(width=16), Text(width=24, projection=20)), ids=6)
    index(folder, "StableDiffusionXLPipeline", CLASSES, {"force_zeros_for_empty_prompt": True})


def sdxl_refiner(folder: Path) -> None:
    _xl(folder, widths=(None, Text(width=24, projection=20)), ids=5)
    absent = {"text_encoder": [None, None], "tokenizer": [None, None]}
    settings = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False}
    index(folder, "StableDiffusionXLImg2ImgPipeline", CLASSES | absent, settings)


def _xl(folder: Path, widths: tuple[Text | None, Text], ids: int) -> None:
    """`ids` numbers tell the U-Net of sizes, crops and scores."""
    from diffusers import EulerDiscreteScheduler

    first, second = widths
    if first:
        clip(folder, "", first)
    clip(folder, "_2", second)
    unet(
        folder, addition_embed_type="text_time", addition_time_embed_dim=TIME_WIDTH, use_linear_projection=True,
        projection_class_embeddings_input_dim=TIME_WIDTH * ids + second.projection,
        cross_attention_dim=second.width + (first.width if first else 0),
    )  # fmt: skip
    vae(folder, force_upcast=True, scaling_factor=0.13025)
    EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading").save_pretrained(
        folder / "scheduler"
    )


def flux(folder: Path) -> None:
    """As dev: guidance is told to the transformer, the shift moves with the size."""
    _flux(folder, guidance=True, shift={"shift": 3.0, "use_dynamic_shifting": True})


def flux_schnell(folder: Path) -> None:
    _flux(folder, guidance=False, shift={"shift": 1.0, "use_dynamic_shifting": False})


def _flux(folder: Path, guidance: bool, shift: dict[str, Any]) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

    clip(folder)
    t5(folder, width=24)
    FluxTransformer2DModel(
        in_channels=64, num_layers=2, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=16, guidance_embeds=guidance, axes_dims_rope=(4, 6, 6),
    ).bfloat16().save_pretrained(folder / "transformer")  # fmt: skip
    vae(
        folder, latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip
    FlowMatchEulerDiscreteScheduler(**shift).save_pretrained(folder / "scheduler")
    index(folder, "FluxPipeline", FLUX_CLASSES)


def t5(folder: Path, width: int) -> None:
    """text_encoder_2 and a Unigram tokenizer of letters; a character it does not know is <unk>."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((c, -3.0) for c in letters)]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=10, model_max_length=T5_LENGTH)
    tokenizer.save_pretrained(folder / "tokenizer_2")
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=3,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    T5EncoderModel(config).bfloat16().save_pretrained(folder / "text_encoder_2")


T5_LENGTH = 32
FLUX_CLASSES = {
    **{part: CLASSES[part] for part in ("vae", "text_encoder", "tokenizer")},
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
}
TINY: Mapping[str, Callable[[Path], None]] = {
    "sd1": make_tiny,
    "sd2": sd2,
    "sdxl": sdxl,
    "sdxl-refiner": sdxl_refiner,
    "flux": flux,
    "flux-schnell": flux_schnell,
}
