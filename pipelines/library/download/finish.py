"""The last steps of a file: is it what it should be? Then it gets its name, else it is kept as `NAME.bad`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from pipelines.library.download.control import Control
from pipelines.library.download.errors import DownloadError, LostConnection
from pipelines.library.download.file_names import BAD, numbered
from pipelines.library.download.part import Part, as_download_error, discard
from pipelines.library.download.plan import PlannedFile
from pipelines.library.files import publish
from pipelines.library.header import WEIGHTS, read_header, refusal_of
from pipelines.spec.errors import IncompleteModel, ModelError

MAX_JSON_BYTES = 100_000_000
_UNKNOWN_SIZE = 1 << 62
_ARCHIVES = (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x1f\x8b", b"\xfd7zXZ", b"(\xb5/\xfd")


def look_at_start(name: str, start: bytes, size: int | None) -> None:
    """Raises DownloadError when the first bytes already tell that this is not `name`; nothing was written yet."""
    low = name.lower()
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06") or (low.endswith(WEIGHTS) and start.startswith(_ARCHIVES)):
        text = f"What the host sends as {name} is an archive; Emulsion does not unpack archives."
        raise DownloadError(text, "Fetch it with your browser, unpack it and look what is in it.")
    if low.endswith(WEIGHTS) and start[:4] != b"GGUF":
        refused = refusal_of(name, start, _UNKNOWN_SIZE if size is None else size)
        if refused is not None:
            raise DownloadError(refused.message, refused.hint)
    elif re.match(rb"\s*<(!doctype|html)\b", start.removeprefix(b"\xef\xbb\xbf"), re.IGNORECASE):
        raise DownloadError(
            f"What the host sends as {name} is a web page.", "Look at the address in your browser."
        )


def same_file(path: Path, file: PlannedFile, control: Control, tell: Callable[[int], None]) -> bool:
    """Whether `path` is what would be fetched: only a sum can tell. Raises Cancelled."""
    if not file.sha256 or not path.is_file():
        return False
    try:
        if file.exact and file.size not in (None, path.stat().st_size):
            return False
        return _sum_of(path, control, tell) == file.sha256
    except OSError:
        return False


def _sum_of(path: Path, control: Control, tell: Callable[[int], None]) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(4 << 20):
            control.check()
            digest.update(piece)
            done += len(piece)
            tell(done)
    return digest.hexdigest()


def finish(part: Part, file: PlannedFile, sha256: str, control: Control) -> Path:
    """The file under its name. Raises DownloadError, and LostConnection for one that only seemed to be whole."""
    try:
        _check(part, file, sha256)
    except LostConnection:
        part.restart()  # no length told that it was cut off, so nothing tells where to go on
        raise
    except DownloadError:
        _set_aside(part)
        raise
    part.sync()
    part.close()
    return _named(part, sha256, control)


def _check(part: Part, file: PlannedFile, sha256: str) -> None:
    name, size = file.path, part.size
    if file.exact and file.size is not None and size != file.size:
        text = f"{name} has {size} bytes and should have {file.size}."
        if size < file.size:
            raise LostConnection(text, "Try again.")
        raise DownloadError(text, f"It is kept as {part.target.name}{BAD}. Try again.")
    if file.sha256 and sha256 != file.sha256:
        raise DownloadError(
            f"{name} is damaged: its SHA-256 is {sha256[:12]}… and should be {file.sha256[:12]}….",
            f"It is kept as {part.target.name}{BAD}. Try again.",
        )
    if name.lower().endswith(WEIGHTS):
        _check_header(part, name)
    elif name.lower().endswith(".json"):
        _check_json(part, name)


def _check_header(part: Part, name: str) -> None:
    try:
        read_header(part.path)
    except ModelError as error:
        message = error.message.replace(part.path.name, name)
        if isinstance(error, IncompleteModel) and part.facts.total is None:
            raise LostConnection(message, "Try again.") from error
        raise DownloadError(message, f"It is kept as {part.target.name}{BAD}. {error.hint}") from error


def _check_json(part: Part, name: str) -> None:
    """A config that was cut off would look like a broken model later."""
    if part.size > MAX_JSON_BYTES:
        return
    try:
        json.loads(b"".join(part.read()))
    except (ValueError, RecursionError) as error:
        if part.facts.total is None:
            raise LostConnection(f"{name} is cut off.", "Try again.") from error
        text = f"{name} is not readable as JSON."
        raise DownloadError(text, f"It is kept as {part.target.name}{BAD}.") from error


def _set_aside(part: Part) -> None:
    """No model list reads this name. Of nothing nothing is kept."""
    if not part.size:
        part.forget()
        return
    part.close()
    bad = part.target.with_name(f"{part.target.name}{BAD}")
    for number in range(1, 100):
        with contextlib.suppress(OSError):
            publish(part.path, numbered(bad, number))
            break
    discard(part.target)


def _named(part: Part, sha256: str, control: Control) -> Path:
    """Never over another file: the next number is taken, unless the other is the same file."""
    whole = PlannedFile(url="", path=part.target.name, sha256=sha256)
    for number in range(1, 1000):
        target = numbered(part.target, number)
        try:
            with as_download_error(part.path):
                if not target.exists():
                    publish(part.path, target)
                    discard(part.target)
                    return target
        except DownloadError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
        if same_file(target, whole, control, lambda _: None):
            discard(part.target)
            return target
    raise DownloadError(f"{part.target.parent} holds too many files called {part.target.name}.")
