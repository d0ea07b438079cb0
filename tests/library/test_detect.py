"""What a weight file is, by its keys and shapes: keys as each program writes them, files of the test's own."""

from __future__ import annotations

import math

import pytest

from pipelines.library.detect.file import detect
from pipelines.library.detect.finding import Finding
from pipelines.library.header import Header
from pipelines.spec.families import FAMILIES
from pipelines.spec.families.others import OTHERS
from pipelines.spec.record import Kind, State

Shapes = dict[str, tuple[int, ...]]


def found(
    shapes: Shapes, name: str = "model", told: str = "", yaml: str = "", dtype: str = "F16", **more
) -> Finding:
    dtypes = {key: more.get("dtypes", {}).get(key, dtype) for key in shapes}
    header = Header(
        dtype="float16",
        size_bytes=1,
        shapes=shapes,
        dtypes=dtypes,
        metadata=more.get("metadata", {}),
        container=more.get("container", "safetensors"),
    )
    return detect(header, name, told, yaml)


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def unet(context: int, channels: int = 4, label: int = 0) -> Shapes:
    """A U-Net by LDM's names."""
    layer = "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    more = {"label_emb.0.0.weight": (1280, label)} if label else {}
    return {"input_blocks.0.0.weight": (320, channels, 3, 3), layer: (640, context), **more}


def unet_diffusers(context: int, channels: int = 4, label: int = 0) -> Shapes:
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    more = {"add_embedding.linear_1.weight": (1280, label)} if label else {}
    return {"conv_in.weight": (320, channels, 3, 3), layer: (640, context), **more}


def vae(channels: int) -> Shapes:
    return {
        "decoder.conv_in.weight": (512, channels, 3, 3),
        "decoder.up.0.block.0.conv1.weight": (128, 128, 3, 3),
    }


def clip(width: int) -> Shapes:
    return {
        "text_model.embeddings.token_embedding.weight": (49408, width),
        "text_model.encoder.layers.0.mlp.fc1.weight": (4 * width, width),
    }


def openclip(width: int) -> Shapes:
    return {
        "token_embedding.weight": (49408, width),
        "transformer.resblocks.0.mlp.c_fc.weight": (4 * width, width),
        "positional_embedding": (77, width),
    }


T5 = {"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096), "shared.weight": (32128, 4096)}


def flux(image: int = 64, guided: bool = True) -> Shapes:
    more = {"guidance_in.in_layer.weight": (3072, 256)} if guided else {}
    return {
        "img_in.weight": (3072, image),
        "txt_in.weight": (3072, 4096),
        "vector_in.in_layer.weight": (3072, 768),
        "double_blocks.0.img_attn.qkv.weight": (9216, 3072),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
        **more,
    }


def flux_diffusers(guided: bool) -> Shapes:
    more = {"time_text_embed.guidance_embedder.linear_1.weight": (3072, 256)} if guided else {}
    return {
        "x_embedder.weight": (3072, 64),
        "context_embedder.weight": (3072, 4096),
        "time_text_embed.text_embedder.linear_1.weight": (3072, 768),
        "transformer_blocks.0.attn.add_k_proj.weight": (3072, 3072),
        "single_transformer_blocks.0.proj_mlp.weight": (12288, 3072),
        **more,
    }


LDM = "model.diffusion_model."
SD_VAE = under("first_stage_model.", vae(4))
SD1 = {**under(LDM, unet(768)), **SD_VAE, **under("cond_stage_model.transformer.", clip(768))}
SD2 = {**under(LDM, unet(1024)), **SD_VAE, **under("cond_stage_model.model.", openclip(1024))}
SDXL = {
    **under(LDM, unet(2048, 4, 2816)),
    **SD_VAE,
    **under("conditioner.embedders.0.transformer.", clip(768)),
    **under("conditioner.embedders.1.model.", openclip(1280)),
}
BUNDLE = {
    **under(LDM, flux()),
    **under("vae.", vae(16)),
    **under("text_encoders.clip_l.transformer.", clip(768)),
    **under("text_encoders.t5xxl.transformer.", T5),
}

# name: (tensors, kind, base, variant)
MODELS = {
    "sd1": (SD1, "checkpoint", "sd1", "normal"),
    "sd1 alone": (unet(768), "unet", "sd1", "normal"),
    "sd1 of diffusers": (unet_diffusers(768), "unet", "sd1", "normal"),
    "sd1 inpaint": (unet(768, 9), "unet", "sd1", "inpaint"),
    "sd1 pix2pix": (unet(768, 8), "unet", "sd1", "pix2pix"),
    "sd2": (SD2, "checkpoint", "sd2", "normal"),
    "sd2 depth": (unet(1024, 5), "unet", "sd2", "depth"),
    "sdxl": (SDXL, "checkpoint", "sdxl", "normal"),
    "sdxl of diffusers": (unet_diffusers(2048, 4, 2816), "unet", "sdxl", "normal"),
    "sdxl edm": ({**SDXL, "edm_mean": (1, 4, 1, 1)}, "checkpoint", "sdxl", "edm"),
    "refiner": (unet(1280, 4, 2560), "unet", "sdxl-refiner", "normal"),
    "flux dev": (flux(), "transformer", "flux", "dev"),
    "flux schnell": (flux(guided=False), "transformer", "flux", "schnell"),
    "flux fill": (flux(384), "transformer", "flux", "fill"),
    "flux control": (flux(128), "transformer", "flux", "control"),
    "flux of diffusers": (flux_diffusers(True), "transformer", "flux", "dev"),
    "flux schnell of diffusers": (flux_diffusers(False), "transformer", "flux", "schnell"),
    "flux bundle": (BUNDLE, "checkpoint", "flux", "dev"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_and_denoisers(name):
    shapes, kind, base, variant = MODELS[name]
    finding = found(shapes)
    assert (finding.kind, finding.base, finding.variant) == (kind, base, variant)
    assert (finding.state is State.READY) == (variant in ("normal", "inpaint", "dev", "schnell"))
    assert bool(finding.reason) == (finding.state is not State.READY)


def test_what_is_in_a_file_and_what_a_picture_takes_beside_it():
    assert (found(SD1).parts, found(SD1).needs) == (("unet", "vae", "clip_l"), ())
    assert found(unet(768)).needs == ("vae", "clip_l")
    assert found(flux()).needs == ("vae", "clip_l", "t5xxl")
    assert found({**under(LDM, unet(768)), **SD_VAE}).needs == ("clip_l",)
    assert found(BUNDLE).needs == ()


@pytest.mark.parametrize(("word", "variant"), [("flux1-depth-dev", "depth"), ("flux1-canny-dev", "canny")])
def test_what_shapes_cannot_tell_is_taken_from_the_name_and_said(word, variant):
    finding = found(flux(128), word)
    assert (finding.variant, len(finding.assumed)) == (variant, 1)
    assert found(flux(), "flux1-kontext-dev").variant == "kontext"
    assert found(flux(), word).variant == "dev"


def test_prediction_by_marks_metadata_yaml_name_and_family():
    """M7: only SD 2.x leaves it open, and then it is said."""
    assert (found(SD1).prediction, found(SD1).assumed) == ("epsilon", ())
    assert found({**SDXL, "v_pred": ()}).prediction == "v_prediction"
    assert found(SDXL, metadata={"modelspec.prediction_type": "v"}).prediction == "v_prediction"
    assert (found(SD2).prediction, len(found(SD2).assumed)) == ("v_prediction", 1)
    assert (found(SD2, "v2-1_512-ema").prediction, len(found(SD2, "v2-1_512-ema").assumed)) == ("epsilon", 1)
    told = found(SD2, "v2-1_512-ema", yaml='params:\n  parameterization: "v"\n')
    assert (told.prediction, told.assumed) == ("v_prediction", ())
    assert found(SD2, yaml="params:\n  beta: 1\n").prediction == "epsilon"
    assert found(flux()).prediction == "flow"


def test_a_reduced_model_is_what_its_maker_says():
    assert found(unet(96)).base == "sd1"
    assert found(unet(96, 4, 128)).kind is Kind.UNKNOWN
    assert found(unet(96, 4, 128), told="sdxl").base == "sdxl"
    assert found(unet(96), told="flux").base == "sd1"


# What shares names with a family that is supported, and is none of it (M6).
RELATIVES = {
    "flux2": {
        **{k: v for k, v in flux().items() if "vector" not in k},
        "double_stream_modulation_img.lin.weight": (24576, 4096),
    },
    "chroma": {**flux(), "distilled_guidance_layer.in_proj.weight": (5120, 64)},
    "hunyuanvideo": {
        **{k: v for k, v in flux().items() if "txt_in" not in k},
        "txt_in.individual_token_refiner.blocks.0.norm1.weight": (3072,),
    },
    "sd3": {"joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536)},
    "z-image": {
        "cap_embedder.1.weight": (3840, 2560),
        "noise_refiner.0.attention.qkv.weight": (11520, 3840),
        "x_pad_token": (1, 3840),
    },
    "kolors": unet(2048, 4, 5632),
    "svd": {**unet(1024, 8), "input_blocks.1.1.time_stack.0.attn1.to_k.weight": (320, 320)},
    "x4-upscaler": {**unet(1024, 7), "label_emb.weight": (1000, 1024)},
}


@pytest.mark.parametrize("name", RELATIVES)
@pytest.mark.parametrize("prefix", ["", LDM])
def test_a_relative_is_named_and_never_taken_for_what_it_resembles(name, prefix):
    finding = found(under(prefix, RELATIVES[name]))
    assert (finding.base, finding.family, finding.state) == (name, "", State.UNSUPPORTED)
    assert next(other.name for other in OTHERS if other.id == name) in finding.reason


def pair(layer: str, into: int, out: int = 640, down: str = "lora_down", up: str = "lora_up") -> Shapes:
    return {f"{layer}.{down}.weight": (8, into), f"{layer}.{up}.weight": (out, 8)}


ATTENTION = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_{}_attn{}_to_k"
LORAS = {
    "sd1 by text": (pair(ATTENTION.format(0, 2), 768), "sd1"),
    "sd2 by text": (pair(ATTENTION.format(0, 2), 1024), "sd2"),
    "sdxl by text": (pair(ATTENTION.format(0, 2), 2048), "sdxl"),
    "sdxl by depth": (pair(ATTENTION.format(1, 1), 640), "sdxl"),
    "refiner by depth": (pair(ATTENTION.format(3, 1), 768), "sdxl-refiner"),
    "sdxl of sgm": (pair("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048), "sdxl"),
    "sd1 at the finest": (
        pair("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", 320),
        "sd1",
    ),
    "flux of ai-toolkit": (
        pair("diffusion_model.double_blocks.0.img_attn.qkv", 3072, 9216, "lora_A", "lora_B"),
        "flux",
    ),
    "flux single": (
        pair("transformer.single_transformer_blocks.0.attn.to_q", 3072, 3072, "lora_A", "lora_B"),
        "flux",
    ),
    "flux of peft": (
        pair("base_model.model.single_transformer_blocks.0.proj_mlp", 3072, 12288, "lora_A", "lora_B"),
        "flux",
    ),
    "flux.2 klein 4B": (
        pair("diffusion_model.single_blocks.0.linear1", 3072, 27648, "lora_A", "lora_B"),
        "flux2",
    ),
    "flux.2 dev": (
        pair("diffusion_model.double_blocks.0.img_attn.qkv", 6144, 18432, "lora_A", "lora_B"),
        "flux2",
    ),
    "hunyuanvideo": (
        {
            **pair("lora_unet_double_blocks_0_img_attn_qkv", 3072, 9216),
            **pair("lora_unet_double_blocks_0_img_mlp_fc1", 3072, 12288),
        },
        "hunyuanvideo",
    ),
    "qwen": (pair("transformer_blocks.0.attn.to_k", 3072, 3072), "qwen-image"),
    "sd3": (pair("transformer.transformer_blocks.0.attn.to_q", 1536, 1536, "lora_A", "lora_B"), "sd3"),
    "wan": (pair("diffusion_model.blocks.0.cross_attn.k", 5120, 5120, "lora_A", "lora_B"), "wan"),
    "z-image": (pair("diffusion_model.layers.0.attention.to_q", 3840, 3840, "lora_A", "lora_B"), "z-image"),
}


@pytest.mark.parametrize("name", LORAS)
def test_loras_by_the_layers_they_change(name):
    """M8: also without the text's own layers."""
    shapes, base = LORAS[name]
    finding = found(shapes)
    assert (finding.kind, finding.base) == (Kind.LORA, base)
    assert bool(finding.family) == any(family.add_ons.base == base for family in FAMILIES)


def test_of_a_lokr_the_product_shows_the_width():
    layer = ATTENTION.format(0, 2)
    whole = {f"{layer}.lokr_w1": (16, 32), f"{layer}.lokr_w2": (40, 64), f"{layer}.alpha": ()}
    halves = {f"{layer}.lokr_w1": (16, 24), f"{layer}.lokr_w2_a": (40, 4), f"{layer}.lokr_w2_b": (4, 32)}
    assert [(found(s).base, found(s).variant) for s in (whole, halves)] == [("sdxl", "LoKr"), ("sd1", "LoKr")]
    assert "LoKr, which cannot be used yet" in found(whole).reason
    hidden = {f"{layer}.oft_blocks": (4, 8, 8)}
    assert (found(hidden).base, found(hidden, told="sdxl").base) == ("", "sdxl")


CONTROL = {"input_hint_block.0.weight": (16, 3, 3, 3), "zero_convs.0.0.weight": (320, 320, 1, 1)}
PARTS = {
    "controlnet": ({**unet(768), **CONTROL}, "controlnet", "sd1", "sd1"),
    "controlnet with prefix": (
        under("control_model.", {**unet(1024), **CONTROL}),
        "controlnet",
        "sd2",
        "sd2",
    ),
    "controlnet of diffusers": (
        {**unet_diffusers(2048, 4, 2816), "controlnet_down_blocks.0.weight": (320, 320, 1, 1)},
        "controlnet",
        "sdxl",
        "sdxl",
    ),
    "controlnet of flux": (
        {**flux_diffusers(True), "controlnet_blocks.0.weight": (3072, 3072)},
        "controlnet",
        "flux",
        "flux",
    ),
    "vae of sd": (vae(4), "vae", "sd1/sd2/sdxl", ""),
    "vae of flux": (vae(16), "vae", "flux", "flux-schnell"),
    "clip_l": (clip(768), "text_encoder", "any", ""),
    "clip_g": (under("transformer.", clip(1280)), "text_encoder", "any", ""),
    "clip_h": (openclip(1024), "text_encoder", "any", ""),
    "t5": (T5, "text_encoder", "any", ""),
    "ip-adapter": ({"ip_adapter.1.to_k_ip.weight": (640, 2048)}, "ip_adapter", "sdxl", "sdxl"),
    "ip-adapter with lora": (
        {"ip_adapter.1.to_k_ip.weight": (640, 768), "ip_adapter.0.to_q_lora.down.weight": (8, 320)},
        "ip_adapter",
        "sd1",
        "sd1",
    ),
    "t2i-adapter": (
        {"body.0.block1.weight": (320, 320), "conv_in.weight": (320, 192, 3, 3)},
        "t2i_adapter",
        "sd1",
        "sd1",
    ),
    "taesd": ({"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)}, "tiny_vae", "sd1/sd2/sdxl", ""),
    "taef1": (
        {"1.weight": (64, 16, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)},
        "tiny_vae",
        "flux",
        "flux-schnell",
    ),
    "esrgan": (
        {"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)},
        "upscaler",
        "any",
        "",
    ),
    "old esrgan": (
        {"model.0.weight": (64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)},
        "upscaler",
        "any",
        "",
    ),
    "compact": (
        {"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,), "body.2.weight": (64, 64, 3, 3)},
        "upscaler",
        "any",
        "",
    ),
    "embedding": ({"emb_params": (8, 768)}, "embedding", "sd1", "sd1"),
    "embedding of sdxl": ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "embedding", "sdxl", "sdxl"),
    "nothing known": ({"weight": (10, 10), "optimizer.state": (3,)}, "unknown", "", ""),
    "empty": ({}, "unknown", "", ""),
}


@pytest.mark.parametrize("name", PARTS)
def test_files_of_one_part(name):
    shapes, kind, base, family = PARTS[name]
    finding = found(shapes)
    assert (finding.kind, finding.base, finding.family) == (kind, base, family)


def test_of_a_reduced_part_its_maker_tells():
    adapter = {"ip_adapter.1.to_k_ip.weight": (64, 96)}
    assert "(it is 96 wide)" in found(adapter).reason
    assert found(adapter, told="sdxl").family == "sdxl"
    assert found({"ip_adapter.1.to_k_ip.weight": (640, 768)}, told="sdxl").family == "sd1"


def test_a_vae_that_fits_several_is_told_by_its_name_and_that_is_said():
    """M7."""
    assert len(found(vae(4)).assumed) == 1
    named = found(vae(4), "sdxl_vae-fp16-fix")
    assert (named.base, len(named.assumed)) == ("sdxl", 1)


def test_a_control_lora_is_no_lora_of_a_style():
    first = pair("img_in", 128, 3072, "lora_A", "lora_B")
    layer = pair("double_blocks.0.img_attn.qkv", 3072, 9216, "lora_A", "lora_B")
    assert (found({**first, **layer}).kind, found({**first, **layer}).base) == (Kind.CONTROL_LORA, "flux")
    assert found({**unet(2048, 4, 2816), "lora_controlnet": (), **pair("x", 8)}).kind is Kind.CONTROL_LORA
    assert found(layer).kind is Kind.LORA


def numbers(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def test_how_the_numbers_are_stored():
    assert found(SD1).quantisation == ""
    assert found(SD1).parameters == numbers(SD1)
    ema = {**SD1, "model_ema.decay": (1000,)}
    assert found(ema).parameters == numbers(SD1)
    assert found(flux(), dtype="F8_E4M3").quantisation == "fp8_e4m3"
    assert found(flux(), dtype="F8_E5M2").quantisation == "fp8_e5m2"
    scaled = {**flux(), "img_in.scale_weight": (), "scaled_fp8": (0,)}
    assert found(scaled, dtype="F8_E4M3").quantisation == "fp8_e4m3_scaled"
    assert found(flux(), dtype="Q4_K", container="gguf").quantisation == "Q4_K"


def test_packed_numbers_hide_their_shapes_and_nothing_else():
    packed = {"img_in.weight": (98304, 1), "txt_in.weight": (6291456, 1)}
    mark = {f"{name}.quant_state.bitsandbytes__nf4": (80,) for name in packed}
    finding = found({**flux(), **packed, **mark}, dtypes=dict.fromkeys((*packed, *mark), "U8"))
    assert (finding.base, finding.variant, finding.quantisation, finding.dtype) == (
        "flux",
        "dev",
        "nf4",
        "nf4",
    )
    whole = {k: v for k, v in flux().items() if k not in packed}
    assert finding.parameters == numbers(whole) + 2 * numbers(packed)
    packed["img_in.weight"] = (3072 * 384 // 2, 1)
    filled = {**flux(), "img_in.bias": (3072,), **packed, **mark}
    assert found(filled, dtypes=dict.fromkeys((*packed, *mark), "U8")).variant == "fill"


def test_gguf_without_tensors_of_its_own_is_named_by_its_architecture():
    finding = found({}, metadata={"general.architecture": "llama"}, container="gguf")
    assert (finding.kind, finding.base, finding.state) == (Kind.OTHER, "llama", State.UNSUPPORTED)
    assert "llama" in finding.reason


def test_every_family_has_signs_and_the_names_are_each_its_own():
    for family in FAMILIES:
        assert family.signs.denoiser
        assert family.signs.lora
        assert family.signs.needs
    names = [other.id for other in OTHERS]
    assert len(names) == len(set(names))
    assert not set(names) & {family.add_ons.base for family in FAMILIES}


@pytest.mark.parametrize(
    "name", ["a\nb.weight", "*", "#", "a.#.b", "[", "\\", "", "\x00", "model.diffusion_model."]
)
def test_odd_names_are_no_patterns(name):
    assert found({name: (4, 4)}).state is State.UNSUPPORTED
