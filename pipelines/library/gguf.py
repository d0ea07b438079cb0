"""The header of a GGUF file: its facts and its table of tensors.

The format: ggml-org/ggml, docs/gguf.md. Blocks of quantised numbers: ggml-org/llama.cpp, gguf-py/gguf/constants.py.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from pipelines.library.contents import MAX_HEADER_BYTES, MAX_SIDES, MAX_TENSORS, Contents, Damaged, count

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_FACTS = 100_000
# What city96/ComfyUI-GGUF writes where a tensor had to be reshaped to be quantised.
_REAL_SHAPE = "comfy.gguf.orig_shape."
_KEPT = 8  # longer lists are a language model's words

_STRING, _ARRAY = 8, 9
_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
# code: (name, numbers a block, bytes a block)
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}


class _Reader:
    """Numbers and texts one after the other; at most `MAX_HEADER_BYTES` of them."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self.at = 0

    def bytes(self, length: int) -> bytes:
        self._room(length)
        data = self._file.read(length)
        self.at += length
        if len(data) < length:
            raise Damaged("is incomplete: it ends in its own table of tensors")
        return data

    def skip(self, length: int) -> None:
        self._room(length)
        self.at += length
        self._file.seek(self.at)

    def _room(self, length: int) -> None:
        if self.at + length > self._size:
            raise Damaged("is incomplete: it ends in its own table of tensors")
        if self.at + length > MAX_HEADER_BYTES:
            raise Damaged(f"has a table of more than {MAX_HEADER_BYTES} bytes, far more than any model needs")

    def number(self, code: str) -> int:
        (value,) = struct.unpack(f"<{code}", self.bytes(struct.calcsize(f"<{code}")))
        return value

    def text(self) -> str:
        return self.bytes(self.number("Q")).decode("utf-8", "replace")


def read(file: BinaryIO, size: int) -> Contents:
    """Raises Damaged for anything that is no whole header."""
    return read_table(file, size)[0]


def read_table(file: BinaryIO, size: int) -> tuple[Contents, dict[str, tuple[int, int]]]:
    """Also where each tensor lies: bytes from the start of the file, and how many. Raises Damaged."""
    reader = _Reader(file, size)
    reader.bytes(len(MAGIC))
    version = reader.number("I")
    if version not in VERSIONS:
        raise Damaged(f"is of GGUF's version {version}, which cannot be read")
    tensors, facts = reader.number("Q"), reader.number("Q")
    if tensors > MAX_TENSORS or facts > MAX_FACTS:
        raise Damaged("has a damaged header: it claims more tensors than any model has")
    metadata = dict(_fact(reader) for _ in range(facts))
    rows = [_row(reader) for _ in range(tensors)]
    align = int(metadata.get("general.alignment", "32"))
    if not 1 <= align <= 1 << 20:
        raise Damaged("has a damaged header")
    start = reader.at + -reader.at % align
    end = max((offset + length for *_, offset, length in rows), default=0)
    contents = Contents(
        shapes={name: _real(metadata, name, shape) for name, _, shape, *_ in rows},
        dtypes={name: kind for name, kind, *_ in rows},
        metadata=metadata,
        end=start + end if end else reader.at,
    )
    return contents, {name: (start + offset, length) for name, _, _, offset, length in rows}


def _fact(reader: _Reader) -> tuple[str, str]:
    """A fact as text: short lists with spaces between, long ones empty."""
    name, kind = reader.text(), reader.number("I")
    if kind == _ARRAY:
        return name, _list(reader)
    return name, reader.text() if kind == _STRING else str(_scalar(reader, kind))


def _scalar(reader: _Reader, kind: int) -> int:
    if kind not in _SCALARS:
        raise Damaged("has a damaged header: a fact of a kind that is not known")
    return reader.number(_SCALARS[kind])


def _list(reader: _Reader) -> str:
    kind, length = reader.number("I"), reader.number("Q")
    if kind == _STRING:
        if length > MAX_HEADER_BYTES:
            raise Damaged("has a damaged header: a list that is longer than the file")
        for _ in range(length):
            reader.skip(reader.number("Q"))
        return ""
    if kind not in _SCALARS:
        raise Damaged("has a damaged header: a list of a kind that is not known")
    if length <= _KEPT:
        return " ".join(str(_scalar(reader, kind)) for _ in range(length))
    reader.skip(length * struct.calcsize(f"<{_SCALARS[kind]}"))
    return ""


def _row(reader: _Reader) -> tuple[str, str, tuple[int, ...], int, int]:
    """Name, type, shape as torch has it (the file has it backwards), offset and length in bytes."""
    name, sides = reader.text(), reader.number("I")
    if sides > MAX_SIDES:
        raise Damaged("has a damaged header: a tensor of too many sides")
    shape = tuple(reader.number("Q") for _ in range(sides))[::-1]
    code, offset = reader.number("I"), reader.number("Q")
    if code not in TYPES:
        raise Damaged(f"holds numbers of a type that is not known ({code})")
    kind, block, size = TYPES[code]
    return name, kind, shape, offset, -(-count(shape) // block) * size


def _real(metadata: dict[str, str], name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape before it was made to fit the blocks; only one of as many numbers."""
    words = metadata.get(f"{_REAL_SHAPE}{name}", "").split()
    if len(words) > MAX_SIDES or any(len(word) > 20 for word in words):
        return shape
    real = tuple(int(word) for word in words if word.isdecimal())
    return real if real and count(real) == count(shape) else shape
