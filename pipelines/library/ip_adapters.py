"""IP-Adapters on disk: which kind a file is, which models it is for, and which image encoder reads pictures for it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.library.folder_checks import check_part
from pipelines.library.header import Header
from pipelines.library.own_facts import read_json
from pipelines.library.side_facts import described, side_facts, told_family
from pipelines.spec.errors import ModelError
from pipelines.spec.families import fitting
from pipelines.spec.families.base import AddOnFacts
from pipelines.spec.record import ModelRecord

IMAGE_ENCODER = "image_encoder"  # the folder's usual name
_CLASS = "CLIPVisionModelWithProjection"
_PROJECTION, _LAYERS = "image_proj.", "ip_adapter."
_FIRST = f"{_LAYERS}1.to_k_ip.weight"  # of the first cross-attention; self-attentions are counted too
_FLUX = "ip_adapter_proj_model."


@dataclass(frozen=True, slots=True)
class _Eye:
    """What the file expects of the image encoder: `width` numbers, `key` is how the encoder's config calls them."""

    key: str
    width: int


def is_ip_adapter(header: Header) -> bool:
    """Whether the names of its tensors are those of an IP-Adapter, also of one that cannot be used."""
    names = header.shapes.keys()
    parts = (_PROJECTION, _LAYERS)
    return all(any(name.startswith(part) for name in names) for part in parts) or any(
        name.startswith(_FLUX) for name in names
    )


def ip_adapter_record(record: ModelRecord, header: Header) -> ModelRecord:
    """`record` with the family and the image encoder. Raises ModelError for one that cannot be used."""
    path = Path(record.path)
    own = side_facts(path)
    record = described(record, header, own)
    eye = _eye(header)
    width = _side(header, _FIRST, 1)
    family = fitting(
        AddOnFacts(denoiser="unet", width=width, told=told_family(header, own.get("family", "")))
    )
    record = dataclasses.replace(record, family=family.id)
    try:
        encoder = _encoder(path.parent, eye)
        weights = check_part(encoder)
    except ModelError as error:
        return dataclasses.replace(record, problem=str(error))
    size = record.size_bytes + weights.size_bytes
    return dataclasses.replace(record, image_encoder=str(encoder), size_bytes=size)


def _eye(header: Header) -> _Eye:
    """By the first layer behind the encoder: the plain kind takes its answer, the finer ones its last but one layer."""
    names = header.shapes.keys()
    if any(name.startswith(_FLUX) for name in names):
        raise ModelError("IP-Adapters for FLUX cannot be used yet.")
    if f"{_PROJECTION}proj.weight" in names:
        return _Eye("projection_dim", _side(header, f"{_PROJECTION}proj.weight", 1))
    if f"{_PROJECTION}proj.3.weight" in names:
        return _Eye("hidden_size", _side(header, f"{_PROJECTION}proj.0.weight", 1))
    if f"{_PROJECTION}latents" in names:
        return _Eye("hidden_size", _side(header, f"{_PROJECTION}proj_in.weight", 1))
    if f"{_PROJECTION}norm.weight" in names or any("perceiver_resampler" in name for name in names):
        raise ModelError(
            "It is a FaceID adapter, which needs another program to read faces; it cannot be used yet."
        )
    raise ModelError("It is an IP-Adapter of a kind that is not known.")


def _side(header: Header, name: str, axis: int) -> int:
    shape = header.shapes.get(name, ())
    if len(shape) != 2:
        raise ModelError(f"It is an IP-Adapter without '{name}'.", "Download it again.")
    return shape[axis]


def _encoder(folder: Path, eye: _Eye) -> Path:
    """The first image encoder of this width in the usual places. Raises ModelError with what was found instead."""
    widths = []
    for place in _places(folder):
        config = _config(place)
        if config.get(eye.key) == eye.width:
            return place
        if config:
            widths.append(f"{place.name} has {config.get(eye.key)}")
    found = f" ({'; '.join(widths)})" if widths else ""
    text = f"Its image encoder was not found: a CLIP vision model with {eye.key} {eye.width}{found}."
    raise ModelError(text, f"Put its folder, with config.json, beside the file as '{IMAGE_ENCODER}'.")


def _places(folder: Path) -> Iterator[Path]:
    """As diffusers, h94/IP-Adapter and ComfyUI lay them: beside the file, one folder up, or among `clip_vision`."""
    yield folder / IMAGE_ENCODER
    yield folder.parent / IMAGE_ENCODER
    yield folder.parent / "models" / IMAGE_ENCODER
    for many in (folder / "clip_vision", folder.parent / "clip_vision"):
        try:
            yield from sorted(many / name for name in os.listdir(many))
        except OSError:
            continue


def _config(folder: Path) -> dict[str, Any]:
    """Of an image encoder; nothing where the folder is none."""
    try:
        config = read_json(folder / "config.json")
    except ModelError:
        return {}
    return config if config.get("architectures") == [_CLASS] else {}
