"""The header of a safetensors file, checked as strictly as the library that will load it does.

The format: 8 bytes length, that much JSON, then the tensors without a gap (huggingface/safetensors, README).
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO, NoReturn

from pipelines.library.contents import MAX_HEADER_BYTES, MAX_TENSORS, Contents, Damaged, count

METADATA = "__metadata__"
# A table with more values than this is no model's; json would need gigabytes for it.
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


def read(file: BinaryIO, size: int) -> Contents:
    """Raises Damaged, or what json raises, for anything that is no whole header."""
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
    entries = _parsed(file.read(length))
    metadata = entries.pop(METADATA, None)
    shapes, dtypes, end = _tensors(entries)
    if 8 + length + end < size:
        raise Damaged(f"holds {size - 8 - length - end} bytes that belong to no tensor")
    return Contents(shapes=shapes, dtypes=dtypes, metadata=_texts(metadata), end=8 + length + end)


def _parsed(data: bytes) -> dict[str, Any]:
    if data.count(b"{") + data.count(b"[") > MAX_LISTS or data.count(b",") > MAX_VALUES:
        raise Damaged("has a table of more tensors than any model has")
    entries = json.loads(data.decode(), parse_constant=_refused)
    if not isinstance(entries, dict):
        raise Damaged("has a damaged header")
    return entries


def _refused(constant: str) -> NoReturn:
    raise ValueError(constant)


def _texts(metadata: Any) -> dict[str, str]:
    """Only what is text; the format knows nothing else, so a thing of another kind is no fact."""
    if not isinstance(metadata, dict):
        return {}
    return {name: text for name, text in metadata.items() if isinstance(text, str)}


def _tensors(entries: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, str], int]:
    """Shapes, types and where the last tensor ends; each begins where the one before it ended."""
    shapes, dtypes, places = {}, {}, []
    for name, entry in entries.items():
        kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(shape, list) or not all(
            type(n) is int and 0 <= n < 1 << 64 for n in (*shape, begin, end)
        ):
            raise Damaged("has a damaged header")
        if kind not in _BITS:
            raise Damaged(f"holds numbers of a type that is not known ({str(kind)[:40]})")
        if (end - begin) * 8 != count(tuple(shape)) * _BITS[kind]:
            raise Damaged("has a damaged header: a tensor's size is not that of its shape")
        shapes[name], dtypes[name] = tuple(shape), kind
        places.append((begin, end))
    last = 0
    for begin, end in sorted(places):
        if begin != last:
            raise Damaged("has a damaged header: its tensors overlap or leave a gap")
        last = end
    return shapes, dtypes, last
