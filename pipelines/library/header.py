"""Safetensors headers, read with plain bounded reads: a hostile file costs a message, not memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.spec.errors import ModelError

# The largest real ones (FLUX, a LoRA with all its training tags) have 1 to 5 MB; the safetensors library allows
# 100 MB, which json takes seconds and a gigabyte for, and the window would stand still meanwhile.
MAX_HEADER_BYTES = 20_000_000
METADATA = "__metadata__"
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "F8_E4M3": "float8"}


@dataclass(frozen=True, slots=True)
class Header:
    """`dtype` of the most weights in torch's words; `size_bytes` of the whole file.

    `shapes` are those of the tensors by name, `metadata` what the maker wrote beside them: foreign text.
    """

    dtype: str
    size_bytes: int
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """Raises ModelError when the file is not a whole safetensors file."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise ModelError(f"{path.name} {_what_it_is(prefix, size)}.", "Download it again.")
            entries = json.loads(file.read(length))
        return Header(
            dtype=_dtype(entries),
            size_bytes=_whole(path, entries, 8 + length, size),
            shapes={n: tuple(map(int, e["shape"])) for n, e in entries.items() if n != METADATA},
            metadata={str(n): str(text) for n, text in (entries.get(METADATA) or {}).items()},
        )
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path.name} has a damaged header.", "Download it again.") from error


def _what_it_is(prefix: bytes, size: int) -> str:
    if not size:
        return "is empty"
    if prefix.lstrip()[:1] == b"<":
        return "is a web page, not a model"
    if prefix.startswith(b"version "):
        return "is a Git LFS pointer, not the model itself"
    if prefix[:2] in (b"PK", b"\x80\x02", b"\x80\x04"):
        return "is a pickle, which can run code, and not a safetensors file"
    return "is not a safetensors file, or only the start of one"


def _whole(path: Path, entries: dict[str, Any], start: int, size: int) -> int:
    """The size of the file, which must reach as far as the tensors it names."""
    ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != METADATA]
    needed = start + max(map(int, ends), default=0)
    if size < needed:
        raise ModelError(f"{path.name} is incomplete: {size} of {needed} bytes.", "Download it again.")
    return size


def _dtype(entries: dict[str, Any]) -> str:
    names = [entry["dtype"] for name, entry in entries.items() if name != METADATA]
    most = max(set(names), key=names.count, default="")
    return _DTYPES.get(most, str(most).lower())
