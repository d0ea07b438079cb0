"""The safetensors format, written a tensor at a time: a model has more bytes than many a computer's memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

# In the format's words.
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """`value` gives the tensor when its turn comes; `nbytes` is what it takes in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    value: Callable[[], torch.Tensor]


def write(file: BinaryIO, entries: Sequence[Entry], metadata: Mapping[str, str], progress: Progress) -> None:
    """`entries` in their order in the file; `progress` hears the bytes done and the bytes to do."""
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    size = 0
    for entry in entries:
        end = size + entry.nbytes
        table[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [size, end]}
        size = end
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    file.write(len(header).to_bytes(8, "little") + header)
    done = 0
    for entry in entries:
        if entry.nbytes:
            file.write(entry.value().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        done += entry.nbytes
        progress(done, size)
