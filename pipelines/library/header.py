"""What a weight file says of itself: names, shapes and types of its tensors. No tensor is read.

Plain bounded reads: a hostile file costs a message, not memory, and a file that is cut off meanwhile no crash.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from pipelines.library import gguf, safetensors_file
from pipelines.library.beside import opened
from pipelines.library.contents import Contents, Damaged
from pipelines.spec.errors import BrokenModel, IncompleteModel, ModelError, UnsafeModel

AGAIN = "Download it again."
OTHER = "Use a version of it that is saved as .safetensors."
CONVERT = f"Convert it: python main.py convert FILE --out NEW.safetensors. Or: {OTHER[0].lower()}{OTHER[1:]}"
WEIGHTS = (".safetensors", ".sft", ".gguf")
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


@dataclass(frozen=True, slots=True)
class Header:
    """`dtype` of the most numbers in torch's words, or GGUF's; `size_bytes` of the whole file.

    `shapes` and `dtypes` are those of the tensors by name, the types as the file writes them; `metadata` is what the
    maker wrote beside them: foreign text. `container` is 'safetensors' or 'gguf'.
    """

    dtype: str
    size_bytes: int
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    container: str = "safetensors"


@dataclass(frozen=True, slots=True)
class Start:
    """What stands at the start of a file, its tensors not looked at yet. `size_bytes` of the whole file."""

    name: str
    size_bytes: int
    found: Contents | safetensors_file.Unread

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.found.metadata


def read_header(path: Path) -> Header:
    """Raises ModelError for whatever is not a whole safetensors or GGUF file, saying what it is instead."""
    return header_of(read_start(path))


def read_start(path: Path) -> Start:
    """Raises ModelError for what is no safetensors or GGUF file; that it is whole, `header_of` tells."""
    name = path.name.encode("utf-8", "replace").decode()
    with _as_model_error(name), open(path, "rb", opener=opened) as file:
        stat = os.fstat(file.fileno())
        if not S_ISREG(stat.st_mode):
            raise BrokenModel(f"{name} is not a file.", "Choose a file.")
        start = file.read(64)
        file.seek(0)
        if start[:4] == gguf.MAGIC:
            return Start(name, stat.st_size, gguf.read(file, stat.st_size))
        if refusal := refusal_of(name, start, stat.st_size):
            raise refusal
        return Start(name, stat.st_size, safetensors_file.read(file, stat.st_size))


def header_of(start: Start) -> Header:
    """Raises ModelError when the file is not whole."""
    with _as_model_error(start.name):
        if isinstance(start.found, Contents):
            return _header(start.found, start.size_bytes, "gguf", start.name)
        contents = safetensors_file.contents(start.found, start.size_bytes)
        return _header(contents, start.size_bytes, "safetensors", start.name)


@contextlib.contextmanager
def _as_model_error(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"{name} cannot be read: {error.strerror}.", "Check the file and its drive."
        ) from error
    except Damaged as error:
        raise BrokenModel(f"{name} {error}.", AGAIN) from error
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise BrokenModel(f"{name} has a damaged header.", AGAIN) from error


def _header(contents: Contents, size: int, container: str, name: str) -> Header:
    if size < contents.end:
        raise IncompleteModel(f"{name} is incomplete: {size} of {contents.end} bytes.", AGAIN)
    return Header(
        dtype=contents.dtype,
        size_bytes=size,
        shapes=contents.shapes,
        metadata=contents.metadata,
        dtypes=contents.dtypes,
        container=container,
    )


def refusal_of(name: str, start: bytes, size: int) -> ModelError | None:
    """For what is neither format, by its first bytes; None when it may be a safetensors file."""
    if not size:
        return IncompleteModel(f"{name} is empty.", AGAIN)
    if 2 <= int.from_bytes(start[:8], "little") <= size - 8 and not name.lower().endswith(PICKLES):
        return None  # the length of a table may look like a letter
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"<[!?a-zA-Z]", text):
        hint = "Sign in where it comes from, then download it again."
        return BrokenModel(f"{name} is a web page, not a model.", hint)
    if text.startswith(b"version https://git-lfs"):
        hint = "Fetch the file itself with `git lfs pull`, or download it again."
        return IncompleteModel(f"{name} is a Git LFS pointer, not the model itself.", hint)
    if text[:1] == b"{":
        return BrokenModel(f"{name} is a message of a web server, not a model.", AGAIN)
    if start[:2] == b"PK" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        if name.lower().endswith(PICKLES):
            return UnsafeModel(f"{name} is a pickle, which can run code; it is not opened.", CONVERT)
        return UnsafeModel(f"{name} is a pickle, which can run code, and not a safetensors file.", CONVERT)
    if name.lower().endswith(PICKLES):
        return UnsafeModel(f"{name} is of a kind that can run code; it is not opened.", OTHER)
    return None
