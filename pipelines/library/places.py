"""Where the tensors of a weight file lie, to be read one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from pipelines.library import gguf
from pipelines.library.contents import count
from pipelines.library.header import AGAIN, read_header
from pipelines.spec.errors import BrokenModel, ModelError
from pipelines.spec.weights import NF4


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor: `begin` counts bytes from the start of the file, `dtype` is the file's own word for it.

    Where a quantiser has put tensors beside it that say how it is widened (runtime/packed_weights.py), they are in
    `beside`, and `facts` are its numbers; `shape` is that of the widened tensor.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size_bytes: int
    beside: Mapping[str, Place] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stays_nf4(self) -> bool:
        """Whether it is kept in 4 bits, as one of whole blocks is."""
        numbers = NF4.numbers
        return (
            self.dtype == NF4.kind and count(self.shape) % numbers == 0 == self.facts["blocksize"] % numbers
        )


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was when its table was read: places in it mean nothing once it is another."""

    path: Path
    size_bytes: int
    mtime_ns: int

    def is_of(self, stat: os.stat_result) -> bool:
        return (stat.st_size, stat.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


def table_of(path: Path) -> tuple[Source, Mapping[str, Place]]:
    """The file and the places of its tensors by name. Raises ModelError for what is gone, damaged or incomplete."""
    source, table, _ = described(path)
    return source, table


def described(path: Path) -> tuple[Source, Mapping[str, Place], Mapping[str, str]]:
    """As `table_of`, and with them the file's metadata."""
    try:
        header = read_header(path)  # which refuses what is no whole file, and says what it is instead
    except ModelError as error:
        text = f"This file cannot be read: {path} ({error.message.rstrip('.')})"
        raise type(error)(text, error.hint) from error
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            source = Source(path, stat.st_size, stat.st_mtime_ns)
            return source, _places(file, stat.st_size), header.metadata
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}.", "Check the file and its drive."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenModel(f"The table of tensors is damaged: {path}", AGAIN) from error


def whole_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """By the names of the packed weights in the file. Raises ModelError as `table_of`."""
    return {name: place.shape for name, place in table_of(path)[1].items() if place.facts}


def _places(file: BinaryIO, size: int) -> dict[str, Place]:
    if file.read(4) == gguf.MAGIC:
        file.seek(0)
        contents, spans = gguf.read_table(file, size)
        return {
            name: Place(contents.dtypes[name], contents.shapes[name], *spans[name])
            for name in contents.shapes
        }
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    entries = orjson.loads(file.read(length))
    entries.pop("__metadata__", None)
    return folded({name: _place(entry, 8 + length) for name, entry in entries.items()}, file)


def _place(entry: dict[str, object], start: int) -> Place:
    begin, end = entry["data_offsets"]  # pyright: ignore[reportGeneralTypeIssues] - checked by read_header
    return Place(str(entry["dtype"]), tuple(entry["shape"]), start + begin, end - begin)  # pyright: ignore


# What the quantisers put beside a weight, by the end of its name -> what it is called here.
_SCALES = {".scale_weight": "scale", ".weight_scale": "scale"}
NF4_STATE = ".quant_state.bitsandbytes__nf4"
_BESIDE = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
_UNUSED = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")  # for layers that compute in 8 bits
_FP8 = ("F8_E4M3", "F8_E5M2")
_MAX_STATE = 10_000


def folded(places: dict[str, Place], file: BinaryIO) -> dict[str, Place]:
    """With what is beside a quantised weight put into its place, so that the names are those of the model alone."""
    for name in [name for name in places if name.endswith(NF4_STATE)]:
        weight = name.removesuffix(NF4_STATE)
        state = places.pop(name)
        beside = {each: places.pop(f"{weight}.{each}") for each in _BESIDE if f"{weight}.{each}" in places}
        facts = _state(state, file)
        own = places[weight]
        places[weight] = replace(own, dtype=NF4.kind, shape=tuple(facts["shape"]), beside=beside, facts=facts)
    for end, word in _SCALES.items():
        for name in [name for name in places if name.endswith(end)]:
            weight = name.removesuffix(end) + ".weight"
            if weight in places and places[weight].dtype in _FP8:
                places[weight] = replace(places[weight], beside={word: places.pop(name)})
    return {name: place for name, place in places.items() if not name.endswith(_UNUSED)}


def _state(place: Place, file: BinaryIO) -> dict[str, Any]:
    """bitsandbytes' JSON of a weight, in bytes. Raises ValueError for one that says nothing of use."""
    if place.size_bytes > _MAX_STATE:
        raise ValueError("a state that is none")
    file.seek(place.begin)
    facts = json.loads(file.read(place.size_bytes))
    numbers = [*facts["shape"], facts["blocksize"]]
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        raise ValueError("a state that is none")
    return facts
