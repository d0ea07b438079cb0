"""Where the tensors of a weight file lie, to be read one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipelines.library import gguf
from pipelines.library.header import AGAIN, read_header
from pipelines.spec.errors import BrokenModel, ModelError


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor: `begin` counts bytes from the start of the file, `dtype` is the file's own word for it."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size_bytes: int


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
    try:
        read_header(path)  # which refuses what is no whole file, and says what it is instead
    except ModelError as error:
        text = f"This file cannot be read: {path} ({error.message.rstrip('.')})"
        raise type(error)(text, error.hint) from error
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            return Source(path, stat.st_size, stat.st_mtime_ns), _places(file, stat.st_size)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}.", "Check the file and its drive."
        ) from error
    except (ValueError, KeyError, TypeError) as error:  # it was whole a moment ago
        raise BrokenModel(f"The file was changed while it was read: {path}", AGAIN) from error


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
    entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return {name: _place(entry, 8 + length) for name, entry in entries.items()}


def _place(entry: dict[str, object], start: int) -> Place:
    begin, end = entry["data_offsets"]  # pyright: ignore[reportGeneralTypeIssues] - checked by read_header
    return Place(str(entry["dtype"]), tuple(entry["shape"]), start + begin, end - begin)  # pyright: ignore
