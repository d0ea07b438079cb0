"""LoRAs, embeddings and IP-Adapters on disk: single safetensors files become `ModelRecord`s by their headers alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipelines.library.header import Header, read_header
from pipelines.library.ip_adapters import ip_adapter_record, is_ip_adapter
from pipelines.library.side_facts import described, side_facts, told_family
from pipelines.spec.errors import EngineError, ModelError
from pipelines.spec.families import FAMILIES, fitting
from pipelines.spec.families.base import AddOnFacts
from pipelines.spec.record import Kind, ModelRecord

SUFFIX = ".safetensors"

# How the two halves of a LoRA's layer are called: by kohya, by peft, by diffusers before peft.
HALVES = (
    (".lora_down.weight", ".lora_up.weight"),
    (".lora_A.weight", ".lora_B.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
)
_DOWN = tuple(down for down, _ in HALVES)
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
            record, kind=_kind(path, header), dtype=header.dtype, size_bytes=header.size_bytes
        )
        if record.kind in _USELESS:
            raise ModelError(_USELESS[record.kind])
        return _READERS[record.kind](record, header)
    except EngineError as error:
        return dataclasses.replace(record, problem=str(error))


_USELESS = {
    Kind.CHECKPOINT: "Models in one file cannot be loaded yet. Use the diffusers folder of it.",
    Kind.UNKNOWN: "It is not known what this file is for.",
}


def _kind(path: Path, header: Header) -> Kind:
    names = header.shapes.keys()
    if is_ip_adapter(
        header
    ):  # before the others: one for faces holds a LoRA as well, one for FLUX its blocks' names
        return Kind.IP_ADAPTER
    if any(name.endswith(_DOWN) or any(mark in name for mark in _UNSUPPORTED) for name in names):
        return Kind.LORA
    if any(name.startswith(_CHECKPOINTS) for name in names):
        return Kind.CHECKPOINT
    return Kind.EMBEDDING if _is_embedding(path, header) else Kind.UNKNOWN


def _is_embedding(path: Path, header: Header) -> bool:
    """Vectors for one text encoder, or one set for each of SDXL's two, and nothing else in the file."""
    shapes = tuple(header.shapes.values())
    if not shapes or not all(
        1 <= len(shape) <= 2 and shape[-1] and _count(shape) <= MAX_VECTORS for shape in shapes
    ):
        return False
    if header.shapes.keys() == _SDXL_PAIR:
        return True
    known = header.shapes.keys() == {_A1111} or any(shapes[0][-1] in f.add_ons.widths for f in FAMILIES)
    return len(shapes) == 1 and (known or bool(told_family(header, side_facts(path).get("family", ""))))


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 2 else 1


def _embedding(record: ModelRecord, header: Header) -> ModelRecord:
    """Its word is the name that it was saved with; A1111 goes by the file's name."""
    own = side_facts(Path(record.path))
    (name, *_), stem = header.shapes, Path(record.path).stem
    word = stem if name == _A1111 or header.shapes.keys() == _SDXL_PAIR else name
    width = sum(shape[-1] for shape in header.shapes.values())
    facts = AddOnFacts(width=width, told=told_family(header, own.get("family", "")))
    record = dataclasses.replace(described(record, header, own), trigger_words=(word.strip()[:100] or stem,))
    return dataclasses.replace(record, family=fitting(facts).id)


_A1111, _SDXL_PAIR = "emb_params", {"clip_l", "clip_g"}
MAX_VECTORS = 75  # what one reading of a prompt has room for


def _lora(record: ModelRecord, header: Header) -> ModelRecord:
    own = side_facts(Path(record.path))
    record = described(record, header, own)
    family = fitting(_lora_facts(header, own.get("family", "")))
    record = dataclasses.replace(record, family=family.id)
    for mark, name in _UNSUPPORTED.items():
        if any(mark in key for key in header.shapes):
            reason = f"It is a {name}, which cannot be used yet; a plain LoRA can."
            return dataclasses.replace(record, problem=reason)
    return record


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


_READERS = {Kind.LORA: _lora, Kind.EMBEDDING: _embedding, Kind.IP_ADAPTER: ip_adapter_record}
