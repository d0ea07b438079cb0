"""The header of a safetensors file, checked as strictly as the library that will load it does.

The format: 8 bytes length, that much JSON, then the tensors without a gap (huggingface/safetensors, README).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from itertools import chain
from math import prod
from typing import Any, BinaryIO

import orjson

from pipelines.library.contents import MAX_HEADER_BYTES, MAX_SIDES, MAX_TENSORS, Contents, Damaged

METADATA = "__metadata__"
_QUOTED = b'"__metadata__"'
# Metadata at the start that hold nothing but text and numbers, as all writers leave them.
_FLAT = re.compile(
    rb'\s*+\{\s*+"__metadata__"\s*+:\s*+(\{(?:[^"{}\[\]]*+"(?:[^"\\]++|\\.)*+")*+[^"{}\[\]]*+\})', re.DOTALL
)
# A table with more values than this is no model's; its objects would need gigabytes.
MAX_LISTS, MAX_VALUES = 3 * MAX_TENSORS + 2, 20 * MAX_TENSORS  # the words in the metadata have commas too
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


@dataclass(frozen=True, slots=True)
class Unread:
    """A header as it lies in the file; of its JSON only the `metadata` are read.

    `table` is the digest of the rest: files with the same one hold tensors of the same names, types and shapes. It is
    empty where the metadata are not at the start, so that they cannot be told from the rest without reading all.
    `begin` is where the tensors begin, in bytes.
    """

    begin: int
    data: bytes
    table: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)


def read(file: BinaryIO, size: int) -> Unread:
    """Raises Damaged or ValueError for anything that is no header at all."""
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not length >= 2:
        raise Damaged("is not a safetensors file, or only the start of one")
    if size - 8 < length <= MAX_HEADER_BYTES and file.read(1) == b"{":
        raise Damaged(f"is incomplete: {size} bytes, and its table of tensors alone needs {8 + length}")
    if length > size - 8:
        raise Damaged("is not a safetensors file, or only the start of one")
    if length > MAX_HEADER_BYTES:
        raise Damaged(f"has a table of {length} bytes, far more than any model needs")
    file.seek(8)
    data = file.read(length)
    metadata, table = _split(data)
    return Unread(begin=8 + length, data=data, table=table, metadata=metadata)


def _split(data: bytes) -> tuple[dict[str, str], bytes]:
    """The metadata, and the digest of what is behind them."""
    flat = _FLAT.match(data)
    if flat is None:
        if _QUOTED not in data:
            return {}, hashlib.sha256(data).digest()
        return _texts(_table(data).get(METADATA)), b""
    metadata = _texts(orjson.loads(flat[1]))
    return metadata, hashlib.sha256(memoryview(data)[flat.end() :]).digest()


def _table(data: bytes) -> dict[str, Any]:
    """As strict as the loading library: no NaN, no lone surrogate, no number above 64 bits, no depth without end."""
    if len(data) > MAX_LISTS and (  # a shorter one cannot hold as many
        data.count(b"{") + data.count(b"[") > MAX_LISTS or data.count(b",") > MAX_VALUES
    ):
        raise Damaged("has a table of more tensors than any model has")
    entries = orjson.loads(data)
    if not isinstance(entries, dict):
        raise Damaged("has a damaged header")
    return entries


def contents(unread: Unread, size: int) -> Contents:
    """Raises Damaged or ValueError for anything that is no whole header of a file of `size` bytes."""
    entries = _table(unread.data)
    metadata = entries.pop(METADATA, None)
    shapes, dtypes, end = _tensors(entries)
    if unread.begin + end < size:
        raise Damaged(f"holds {size - unread.begin - end} bytes that belong to no tensor")
    return Contents(shapes=shapes, dtypes=dtypes, metadata=_texts(metadata), end=unread.begin + end)


def _texts(metadata: Any) -> dict[str, str]:
    """Only what is text; the format knows nothing else, so a thing of another kind is no fact."""
    if not isinstance(metadata, dict):
        return {}
    return {name: text for name, text in metadata.items() if isinstance(text, str)}


def _tensors(entries: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, str], int]:
    """Shapes, types and where the last tensor ends; each begins where the one before it ended.

    A header has thousands of tensors, so each check goes over all of them at once.
    """
    kinds = [entry["dtype"] for entry in entries.values()]
    sides = [entry["shape"] for entry in entries.values()]
    places = [entry["data_offsets"] for entry in entries.values()]
    if not {*map(type, sides), *map(type, places)} <= {list} or not {*map(len, places)} <= {2}:
        raise Damaged("has a damaged header")
    numbers = [*chain.from_iterable(sides), *chain.from_iterable(places)]
    if not {*map(type, numbers)} <= {int} or (numbers and not 0 <= min(numbers) <= max(numbers) < 1 << 64):
        raise Damaged("has a damaged header")
    if unknown := [kind for kind in kinds if kind not in _BITS]:
        raise Damaged(f"holds numbers of a type that is not known ({str(unknown[0])[:40]})")
    if max(map(len, sides), default=0) > MAX_SIDES:  # the product of thousands of sides takes minutes
        raise Damaged("has a damaged header: a tensor of too many sides")
    shapes = list(map(tuple, sides))
    bits = [prod(shape) * _BITS[kind] for kind, shape in zip(kinds, shapes, strict=True)]
    if bits != [(end - begin) * 8 for begin, end in places]:
        raise Damaged("has a damaged header: a tensor's size is not that of its shape")
    places.sort()
    ends = [end for _, end in places]
    if [begin for begin, _ in places] != [0, *ends[:-1]][: len(ends)]:
        raise Damaged("has a damaged header: its tensors overlap or leave a gap")
    last = ends[-1] if ends else 0
    return dict(zip(entries, shapes, strict=True)), dict(zip(entries, kinds, strict=True)), last
