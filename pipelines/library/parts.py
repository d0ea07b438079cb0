"""LoRAs on disk: single safetensors files become `ModelRecord`s by their headers alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pipelines.library.header import Header, read_header
from pipelines.library.own_facts import own_facts
from pipelines.spec.errors import EngineError, ModelError
from pipelines.spec.families import fitting
from pipelines.spec.families.base import AddOnFacts
from pipelines.spec.record import Kind, ModelRecord

SUFFIX = ".safetensors"
SIDE_FACTS = ".emulsion.json"  # behind the file's stem
_FACTS = ("title", "family", "description")
# What the metadata call the base, by trust.
_WORDS = ("emulsion.family", "modelspec.architecture", "ss_base_model_version")

# How the two halves of a LoRA's layer are called: by kohya, by peft, by diffusers before peft.
_DOWN = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight", "_lora.down.weight")
_UNSUPPORTED = {
    "hada_w1_a": "LoHa",
    "lokr_w1": "LoKr",
    "lora_mid": "LoCon with Tucker decomposition",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "oft_blocks": "OFT",
}
# What begins the name of a tensor, and the part of a pipeline that it belongs to.
_PARTS = {
    "lora_te2_": "text_encoder_2",
    "lora_te1_": "text_encoder",
    "lora_te_": "text_encoder",
    "lora_unet_": "unet",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "unet.": "unet",
    "transformer.": "transformer",
    "double_blocks": "transformer",
    "single_blocks": "transformer",
}
_TRANSFORMER = ("double_blocks", "single_blocks", "single_transformer_blocks")
_CHECKPOINTS = ("model.diffusion_model.", "first_stage_model.", "double_blocks.", "model.double_blocks.")


def file_record(record: ModelRecord) -> ModelRecord:
    """`record` of a safetensors file, with all that its header tells; the reason in `problem` if it is of no use."""
    path = Path(record.path)
    try:
        header = read_header(path)
        record = dataclasses.replace(
            record, kind=_kind(header), dtype=header.dtype, size_bytes=header.size_bytes
        )
        if record.kind is not Kind.LORA:
            raise ModelError(_USELESS[record.kind])
        return _lora(record, header)
    except EngineError as error:
        return dataclasses.replace(record, problem=str(error))


_USELESS = {
    Kind.CHECKPOINT: "Models in one file cannot be loaded yet. Use the diffusers folder of it.",
    Kind.UNKNOWN: "It is not known what this file is for.",
}


def _kind(header: Header) -> Kind:
    names = header.shapes.keys()
    if any(name.endswith(_DOWN) or any(mark in name for mark in _UNSUPPORTED) for name in names):
        return Kind.LORA
    return Kind.CHECKPOINT if any(name.startswith(_CHECKPOINTS) for name in names) else Kind.UNKNOWN


def _lora(record: ModelRecord, header: Header) -> ModelRecord:
    own = side_facts(Path(record.path))
    record = described(record, header, own)
    family = fitting(_lora_facts(header, own.get("family", "")))
    record = dataclasses.replace(record, family=family.id)
    for mark, name in _UNSUPPORTED.items():
        if any(mark in key for key in header.shapes):
            raise_to = f"It is a {name}, which cannot be used yet; a plain LoRA can."
            return dataclasses.replace(record, problem=raise_to)
    return record


def side_facts(path: Path) -> dict[str, Any]:
    """What `NAME.emulsion.json` says of the file `NAME.safetensors`."""
    facts = own_facts(path.with_name(f"{path.stem}{SIDE_FACTS}"))
    return {name: value for name, value in facts.items() if name in _FACTS}


def described(record: ModelRecord, header: Header, own: dict[str, Any]) -> ModelRecord:
    """With a title, a description and the words that call it: the maker's own facts before the metadata's."""
    told = {
        "title": header.metadata.get("modelspec.title", ""),
        "description": header.metadata.get("modelspec.description", ""),
    }
    text = {name: own.get(name) or value.strip()[:2000] for name, value in told.items()}
    words = header.metadata.get("modelspec.trigger_phrase", "").strip()[:200]
    return dataclasses.replace(
        record,
        title=text["title"] or record.title,
        description=text["description"],
        trigger_words=(words,) if words else (),
    )


def told_family(header: Header, own: str) -> str:
    """The family that the maker names: in his own facts, else in the metadata of the trainer."""
    words = (header.metadata.get(name, "").strip() for name in _WORDS)
    return own or next((word[:100] for word in words if word), "")


def _lora_facts(header: Header, own: str) -> AddOnFacts:
    parts = {name: part for name in header.shapes if (part := _part(name))}
    found = set(parts.values())
    denoiser = next((part for part in ("transformer", "unet") if part in found), "")
    return AddOnFacts(denoiser=denoiser, width=_width(header, parts, denoiser), told=told_family(header, own))


def _part(name: str) -> str:
    name = name.removeprefix("base_model.model.").removeprefix("diffusion_model.")
    part = next((part for start, part in _PARTS.items() if name.startswith(start)), "")
    return "transformer" if part == "unet" and any(mark in name for mark in _TRANSFORMER) else part


def _width(header: Header, parts: dict[str, str], denoiser: str) -> int:
    """The numbers that go into the layer that tells the base, 0 when the file has no such layer."""
    downs = {
        name: shape[1]
        for name, shape in header.shapes.items()
        if name in parts and name.endswith(_DOWN) and len(shape) >= 2
    }
    return next((downs[name] for name in downs if _tells(name, parts[name], denoiser)), 0)


def _tells(name: str, part: str, denoiser: str) -> bool:
    """The text comes into a U-Net's attn2 by its keys and values, tokens into a transformer's first attention."""
    if part != denoiser:
        return False
    if denoiser == "transformer":
        return any(
            mark in name for mark in ("to_q", "to_k", "to_v", "img_attn_qkv", "img_attn.qkv", "linear1")
        )
    plain = name.replace("_", ".")
    return "attn2" in name and any(mark in plain for mark in ("to.k", "to.v"))
