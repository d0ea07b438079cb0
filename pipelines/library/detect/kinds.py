"""What a file of one part is, by its layers: the table of kinds that are no denoiser and no LoRA."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.spec.families.layers import Conditions, has, lacks, wide
from pipelines.spec.record import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRow:
    """`which` says more of the kind, such as the text encoder's name; `layout` whose names the layers have.

    `width`: where the text's width or the latent's channels show, as (names, side), for the families to be told by.
    `fits`: the width that a model's pictures have -> the common word of the family, where widths mean that.
    """

    kind: Kind
    layers: Conditions
    which: str = ""
    layout: str = ""
    width: tuple[tuple[str, ...], int] = ((), 0)
    fits: tuple[tuple[int, str], ...] = ()


_CLIP_WIDTHS = ((768, "clip_l"), (1024, "clip_h"), (1280, "clip_g"))
_HF_TOKENS = ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight")
_HF_LAYERS = ("text_model.encoder.layers.#.mlp.fc1.weight", "encoder.layers.#.mlp.fc1.weight")
_OPEN_LAYERS = ("transformer.resblocks.#.mlp.c_fc.weight", "resblocks.#.mlp.c_fc.weight")
_T5 = "encoder.block.#.layer.#.SelfAttention.q.weight"
_T5_GGUF = "enc.blk.#.attn_q.weight"
_IP = "*to_k_ip.weight"
IP_ADAPTER = (_IP, "ip_adapter.*")  # also one without the attentions that it must have

KINDS: tuple[KindRow, ...] = (
    KindRow(
        kind=Kind.CONTROLNET,
        layout="ldm",
        layers=(has("zero_convs.0.0.weight"), has("input_hint_block.0.weight")),
    ),
    KindRow(
        kind=Kind.CONTROLNET,
        layout="diffusers",
        layers=(has("controlnet_down_blocks.#.weight", "controlnet_mid_block.weight"),),
    ),
    KindRow(kind=Kind.CONTROLNET, layout="diffusers", layers=(has("controlnet_blocks.#.weight"),)),
    KindRow(
        kind=Kind.CONTROLNET,
        layout="xlabs",
        layers=(has("input_hint_block.0.weight"), has("double_blocks.#.*")),
    ),
    KindRow(
        kind=Kind.CONTROLNET,
        which="lllite",
        layout="lllite",
        layers=(has("lllite_unet_*"),),
        fits=((768, "sd1"), (2048, "sdxl")),
        width=(("lllite_unet_*attn2_to_k.*down.0.weight",), 1),
    ),
    KindRow(
        kind=Kind.IP_ADAPTER,
        layers=(has(*IP_ADAPTER),),
        width=((_IP,), 1),
        fits=((768, "sd1"), (1024, "sd2"), (2048, "sdxl"), (4096, "flux")),
    ),
    KindRow(
        kind=Kind.IP_ADAPTER,
        layout="xlabs",
        layers=(has("*ip_adapter_double_stream_k_proj.weight", "ip_adapter_proj_model.*"),),
        width=(("*ip_adapter_double_stream_k_proj.weight",), 0),
        fits=((3072, "flux"),),
    ),
    KindRow(
        kind=Kind.T2I_ADAPTER,
        layers=(has("body.0.block1.weight", "body.0.resnets.0.block1.weight", "body.0.in_conv.weight"),),
        # The picture is folded 8 times a side for SD 1.x, 16 times for SDXL, in grey or in colours.
        width=(("conv_in.weight", "body.0.in_conv.weight"), 1),
        fits=((64, "sd1"), (192, "sd1"), (256, "sdxl"), (768, "sdxl")),
    ),
    KindRow(
        kind=Kind.VAE,
        layout="ldm",
        layers=(has("decoder.up.#.block.#.conv1.weight"), has("decoder.conv_in.weight")),
    ),
    KindRow(
        kind=Kind.VAE,
        layout="diffusers",
        layers=(has("decoder.up_blocks.#.resnets.#.conv1.weight"), has("decoder.conv_in.weight")),
    ),
    KindRow(
        kind=Kind.TINY_VAE,
        layout="diffusers",
        layers=(has("decoder.layers.#.conv.0.weight"),),
        width=(("decoder.layers.0.weight", "decoder.layers.1.weight"), 1),
    ),
    KindRow(
        kind=Kind.TINY_VAE,
        which="decoder",
        layout="taesd",
        layers=(wide("1.weight", 0, 64), has("3.conv.0.weight")),
        width=(("1.weight",), 1),
    ),
    KindRow(
        kind=Kind.TINY_VAE,
        which="encoder",
        layout="taesd",
        layers=(wide("0.weight", 1, 3), has("1.conv.0.weight")),
        width=(("14.weight",), 0),
    ),
    KindRow(
        kind=Kind.TINY_VAE,
        layout="taesd",
        layers=(has("taesd_decoder.1.weight", "taesd_decoder.3.conv.0.weight"),),
        width=(("taesd_decoder.1.weight",), 1),
    ),
    *(
        KindRow(
            kind=Kind.TEXT_ENCODER,
            which=name,
            layout="diffusers",
            layers=(has(*_HF_LAYERS), wide(_HF_TOKENS, 1, width)),
        )
        for width, name in _CLIP_WIDTHS
    ),
    *(
        KindRow(
            kind=Kind.TEXT_ENCODER,
            which=name,
            layout="openclip",
            layers=(has(*_OPEN_LAYERS), wide("token_embedding.weight", 1, width)),
        )
        for width, name in _CLIP_WIDTHS
    ),
    KindRow(
        kind=Kind.TEXT_ENCODER, which="clip", layout="diffusers", layers=(has(*_HF_LAYERS), has(*_HF_TOKENS))
    ),
    KindRow(kind=Kind.TEXT_ENCODER, which="t5xxl", layers=(has(_T5), wide("shared.weight", 1, 4096))),
    KindRow(
        kind=Kind.TEXT_ENCODER, which="t5xxl", layers=(has(_T5_GGUF), wide("token_embd.weight", 1, 4096))
    ),
    KindRow(kind=Kind.TEXT_ENCODER, which="t5", layers=(has(_T5, _T5_GGUF),)),
    KindRow(
        kind=Kind.IMAGE_ENCODER,
        which="clip",
        layers=(
            has(
                "vision_model.encoder.layers.#.mlp.fc1.weight",
                "visual.transformer.resblocks.#.mlp.c_fc.weight",
            ),
        ),
    ),
    KindRow(
        kind=Kind.UPSCALER,
        which="esrgan",
        layers=(has("1.sub.#.RDB1.conv1.0.weight", "RRDB_trunk.#.RDB1.conv1.weight"),),
    ),
    KindRow(
        kind=Kind.UPSCALER, which="esrgan", layers=(has("body.#.rdb1.conv1.weight"), has("conv_first.weight"))
    ),
    # Convolutions with a PReLU behind each; the last one's channels are shuffled into the picture.
    KindRow(
        kind=Kind.UPSCALER,
        which="compact",
        layers=(
            wide("body.0.weight", 1, 3),
            has("body.2.weight"),
            lacks("body.0.block1.weight", "conv_in.weight"),
        ),
    ),
    KindRow(
        kind=Kind.UPSCALER,
        which="swinir",
        layers=(has("layers.#.residual_group.blocks.#.attn.qkv.weight"), has("conv_first.weight")),
    ),
    KindRow(
        kind=Kind.UPSCALER,
        which="hat",
        layers=(has("layers.#.residual_group.blocks.#.conv_block.cab.0.weight"),),
    ),
    KindRow(
        kind=Kind.UPSCALER,
        which="dat",
        layers=(has("layers.#.blocks.#.attn.qkv.weight"), has("conv_first.weight")),
    ),
    KindRow(kind=Kind.UPSCALER, which="span", layers=(has("block_1.c1_r.sk.weight"),)),
    KindRow(
        kind=Kind.UPSCALER,
        which="omnisr",
        layers=(has("residual_layer.#.residual_layer.#.layer.0.fn.0.weight"),),
    ),
)
