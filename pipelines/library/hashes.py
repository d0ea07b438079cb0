"""The hashes by which other programs and sites name a model file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PIECE = 4 << 20
_LENGTH = 8  # the bytes before a safetensors header that say how long it is
_SAFETENSORS = (".safetensors", ".sft")


@dataclass(frozen=True, slots=True)
class Hashes:
    """SHA-256 in hex of the whole file, and of the tensors behind the header, empty where it is no safetensors file."""

    sha256: str
    tensors: str = ""

    @property
    def autov2(self) -> str:
        return self.sha256[:10]

    @property
    def autov3(self) -> str:
        return self.tensors[:12]


def file_hashes(
    path: Path,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Hashes:
    """Reads the file once. `progress` hears the bytes done, of how many; what `check` raises between two ends it.

    Raises OSError when the file cannot be read.
    """
    whole, tensors, done = hashlib.sha256(), hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        begin = _begin(file.read(_LENGTH), size) if path.suffix.lower() in _SAFETENSORS else 0
        file.seek(0)
        while piece := file.read(_PIECE):
            if check is not None:
                check()
            whole.update(piece)
            if begin:
                tensors.update(memoryview(piece)[max(0, begin - done) :])
            done += len(piece)
            if progress is not None:
                progress(done, size)
    return Hashes(whole.hexdigest(), tensors.hexdigest() if begin else "")


def _begin(length: bytes, size: int) -> int:
    """Where the tensors begin; 0 when this is no header."""
    begin = _LENGTH + int.from_bytes(length, "little")
    return begin if len(length) == _LENGTH and begin <= size else 0
