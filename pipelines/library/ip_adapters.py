"""IP-Adapters on disk: which kind a file is, and which image encoder reads pictures for it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.library.findings import with_error
from pipelines.library.folder_checks import check_part
from pipelines.library.header import Header
from pipelines.library.own_facts import read_json
from pipelines.spec.errors import IncompleteModel, ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Feature
from pipelines.spec.record import Kind, ModelRecord

IMAGE_ENCODER = "image_encoder"  # the folder's usual name
_CLASS = "CLIPVisionModelWithProjection"
_PROJECTION = "image_proj."
_FIRST = "ip_adapter.1.to_k_ip.weight"  # of the first cross-attention; self-attentions are counted too


@dataclass(frozen=True, slots=True)
class _Eye:
    """What the file expects of the image encoder: `width` numbers, `key` is how the encoder's config calls them."""

    key: str
    width: int


def ip_adapter_record(record: ModelRecord, header: Header) -> ModelRecord:
    """`record`, which is known for one, with its image encoder; the reason in `problem` if it is of no use."""
    try:
        eye = _eye(record, header)
    except ModelError as error:
        return with_error(record, error)
    return record if record.problem else _with_encoder(record, eye)


def _with_encoder(record: ModelRecord, eye: _Eye) -> ModelRecord:
    lacking = dataclasses.replace(record, needs=(Kind.IMAGE_ENCODER.value,))
    try:
        encoder = _encoder(Path(record.path).parent, eye)
        weights = check_part(encoder)
    except ModelError as error:
        return with_error(lacking, error)
    except OSError as error:
        return with_error(lacking, ModelError(f"Its image encoder cannot be read: {error.strerror}."))
    size = record.size_bytes + weights.size_bytes
    return dataclasses.replace(record, image_encoder=str(encoder), size_bytes=size)


def _eye(record: ModelRecord, header: Header) -> _Eye:
    """By the first layer behind the encoder: the plain kind takes its answer, the finer ones its last but one layer.

    Raises ModelError for a kind that cannot be used, and for a file that lacks a layer.
    """
    if record.family and Feature.IP_ADAPTER not in by_id(record.family).supports:
        raise ModelError(f"IP-Adapters for {record.base.upper()} cannot be used yet.")
    eye = _seen(header)
    _side(header, _FIRST, 1)
    return eye


def _seen(header: Header) -> _Eye:
    names = header.shapes.keys()
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
        raise IncompleteModel(f"It is an IP-Adapter without '{name}'.", "Download it again.")
    return shape[axis]


def _encoder(folder: Path, eye: _Eye) -> Path:
    """The first image encoder of this width in the usual places. Raises IncompleteModel with what was found instead."""
    widths = []
    for place in _places(folder):
        config = _config(place)
        if config.get(eye.key) == eye.width:
            return place
        if config:
            widths.append(f"{place.name} has {config.get(eye.key)}")
    found = f" ({'; '.join(widths)})" if widths else ""
    text = f"Its image encoder was not found: a CLIP vision model with {eye.key} {eye.width}{found}."
    raise IncompleteModel(text, f"Put its folder, with config.json, beside the file as '{IMAGE_ENCODER}'.")


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
