"""From a pickle (.ckpt, .pt, .pth, .bin) to a .safetensors file. The pickle is opened in a process of its own only."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.library.beside import opened
from pipelines.library.files import publish, remove, write_temporary
from pipelines.library.header import AGAIN, OTHER, Header, read_header
from pipelines.spec.errors import BrokenModel, ModelError, OutOfMemory, UnsafeModel

START_S = 180.0  # until torch is there, on the slowest of disks
BYTES_A_SECOND = 2_000_000  # of the slowest of disks
MAX_ENTRIES = 300_000
_ROOT = Path(__file__).resolve().parents[2]
_CHILD = "import sys; sys.path.append({root!r}); from pipelines.workshop.unpickle_child import main; main()"
# Of the environment only what an interpreter needs to start; no proxy, no token.
_ENVIRONMENT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Unpickled:
    """`left_out` are the names of what is no tensor, or none that the new format holds."""

    tensors: int
    left_out: tuple[str, ...]


def unpickle(
    path: Path, out: Path, *, check: Callable[[], None] | None = None, timeout_s: float | None = None
) -> Unpickled:
    """Writes the tensors of `path` to `out`, bit for bit. `check` is called now and then; what it raises ends it.

    Raises UnsafeModel for what calls for more than tensors, BrokenModel for what is no such file, ModelError, and
    FileExistsError where `out` is there; then nothing is left.
    """
    name = path.name.encode("utf-8", "replace").decode()
    size = _checked(path, name)
    if timeout_s is None:
        timeout_s = START_S + size / BYTES_A_SECOND
    part = write_temporary(out.parent, lambda file: None)
    try:
        answer = _answer(path, part, size, check, timeout_s)
        if (kind := answer.get("kind")) is not None:
            raise _error(name, str(kind), str(answer.get("what", "")))
        header = _checked_result(part, name)
        if len(header.shapes) != answer.get("tensors"):
            raise BrokenModel(f"{name} could not be converted: not all of it came out.", AGAIN)
        publish(part, out)
    finally:
        remove(part)
    left_out = [*map(str, answer.get("left_out", ()))]
    if more := answer.get("more"):
        left_out.append(f"{more} more")
    return Unpickled(len(header.shapes), tuple(left_out))


def _checked_result(part: Path, name: str) -> Header:
    """What came out of that process is not taken on trust."""
    try:
        return read_header(part)
    except ModelError as error:
        raise BrokenModel(f"{name} could not be converted: what came out is no whole file.", OTHER) from error


def _checked(path: Path, name: str) -> int:
    """Its size in bytes. A zip is looked through before: torch packs nothing, so what is packed is a bomb."""
    try:
        with open(path, "rb", opener=opened) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(2)
            if start == b"PK":
                _check_zip(file, name, size)
    except OSError as error:
        raise ModelError(f"{name} cannot be read: {error.strerror}.", "Check the file.") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise BrokenModel(f"{name} is a damaged archive.", AGAIN) from error
    if start != b"PK" and start[:1] != b"\x80":
        raise BrokenModel(f"{name} is no file of weights that torch has saved.", AGAIN)
    return size


def _check_zip(file: Any, name: str, size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    packed = any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 0x41 for e in entries)
    if packed or len(entries) > MAX_ENTRIES or sum(e.file_size for e in entries) > size:
        raise BrokenModel(f"{name} is a packed archive, not one that torch has saved.", OTHER)
    if not any(e.filename.endswith("/data.pkl") for e in entries):
        raise BrokenModel(f"{name} is an archive without weights in it.", OTHER)


def _answer(
    path: Path, part: Path, size: int, check: Callable[[], None] | None, timeout_s: float
) -> dict[str, Any]:
    asked = json.dumps(
        {
            "path": os.fspath(path.absolute()),
            "out": os.fspath(part.absolute()),
            "size": size,
            "seconds": timeout_s,
        }
    )
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-I", "-c", _CHILD.format(root=str(_ROOT))]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty, tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            command, cwd=empty, env=environment, stdin=subprocess.PIPE, stdout=told, stderr=subprocess.DEVNULL
        )
        try:
            with contextlib.suppress(OSError), process.stdin as stdin:  # pyright: ignore[reportOptionalContextManager]
                stdin.write(asked.encode())
            _wait(process, check, timeout_s)
        finally:
            process.kill()
            process.wait()
        told.seek(0)
        return _last_line(told.read(1_000_000))


def _wait(process: subprocess.Popen[bytes], check: Callable[[], None] | None, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            return
        if check is not None:
            check()
    raise ModelError("The file was not read in time, so it was given up.", OTHER)


def _last_line(data: bytes) -> dict[str, Any]:
    """A process that died has not answered."""
    try:
        answer = json.loads(data.decode().strip().rpartition("\n")[2])
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"kind": "died"}


def _error(name: str, kind: str, what: str) -> ModelError | OutOfMemory:
    if kind == "unsafe":
        called = f" It calls for '{what}'." if what else ""
        return UnsafeModel(
            f"{name} holds more than weights and could run code; it was not opened.{called}", OTHER
        )
    if kind == "nothing":
        return BrokenModel(f"{name} holds no tensors.", "Choose a file of weights.")
    if kind == "memory":
        return OutOfMemory(
            f"{name} needs more memory than there is.", "Close other programs, then try again."
        )
    if kind == "disk":
        return ModelError(f"{name} could not be converted: {what}.", "Check the drive.")
    why = f": {what}" if what else ""
    return BrokenModel(f"{name} is damaged, or is no file of weights that torch has saved{why}.", OTHER)
