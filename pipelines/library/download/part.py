"""`Part`: the unfinished file `NAME.part` and what is known of it, `NAME.part.json` beside it.

An open part is locked, so that two downloads never write into one file, nor do two programs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from pipelines.library.download.errors import DownloadError, NoRoom
from pipelines.library.download.file_names import PART
from pipelines.library.files import remove, write_temporary
from pipelines.spec.downloads import size_text

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_LOCK_AT = 1 << 62  # Windows locks bytes; these are behind the end of every file


@dataclass(frozen=True, slots=True)
class PartFacts:
    """`url` without its secrets; `validator` an ETag or a date for If-Range, empty when it cannot be resumed.

    `total` of the whole file in bytes, None when it is not known.
    """

    url: str
    total: int | None = None
    validator: str = ""


class Part:
    """Open and locked until `close()`. Its size on the disk is how far it has come."""

    def __init__(self, target: Path, file: BinaryIO, facts: PartFacts) -> None:
        self.target, self.facts = target, facts
        self._file = file

    @property
    def path(self) -> Path:
        return part_path(self.target)

    @property
    def size(self) -> int:
        """In bytes; 0 once it has been given its name or taken away."""
        return 0 if self._file.closed else os.fstat(self._file.fileno()).st_size

    def learn(self, **facts: object) -> None:
        """Writes down what the host says of the file."""
        self.facts = replace(self.facts, **facts)
        with as_download_error(self.path):
            write_facts(self.path, self.facts)

    def restart(self) -> None:
        """Nothing of it is kept."""
        with as_download_error(self.path):
            self._file.seek(0)  # truncate alone leaves the next byte behind a hole
            self._file.truncate(0)
        self.learn(total=None, validator="")

    def append(self, data: bytes) -> None:
        """Raises NoRoom when the drive is full; what could be written is kept."""
        with as_download_error(self.path):
            write_all(self._file, data)

    def read(self) -> Iterator[bytes]:
        """From its start, in pieces."""
        with as_download_error(self.path), self.path.open("rb", buffering=0) as file:
            while piece := file.read(4 << 20):
                yield piece

    def sync(self) -> None:
        with as_download_error(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()

    def forget(self) -> None:
        """Takes both files away."""
        self.close()
        discard(self.target)


def part_path(target: Path) -> Path:
    return target.with_name(f"{target.name}{PART}")


def discard(target: Path) -> None:
    """Takes away what is left of an unfinished `target`."""
    remove(part_path(target))
    remove(_facts_path(part_path(target)))


def opened(target: Path, url: str) -> Part | None:
    """The part of `target` that was begun from `url`, else a new one; None where the place is another's.

    Raises DownloadError when the folder cannot be written to.
    """
    path = part_path(target)
    with as_download_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = read_facts(path)
        try:
            file = path.open("xb", buffering=0)
            facts = PartFacts(url)
        except FileExistsError:
            if facts is None or facts.url != url or not path.is_file():
                return None
            file = path.open("ab", buffering=0)
        if not _locked(file):
            file.close()
            return None
        part = Part(target, file, facts or PartFacts(url))
        try:
            write_facts(path, part.facts)
        except BaseException:
            part.close()
            raise
        return part


def read_facts(path: Path) -> PartFacts | None:
    """None where there are none or they cannot be read."""
    try:
        data = json.loads(_facts_path(path).read_text("utf-8"))
        total = data["total"]
        known = total is None or (isinstance(total, int) and total >= 0)
        if known and isinstance(data["url"], str) and isinstance(data["validator"], str):
            return PartFacts(data["url"], total, data["validator"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def write_facts(path: Path, facts: PartFacts) -> None:
    """Whole or not at all. Raises OSError."""
    text = json.dumps(asdict(facts))
    temporary = write_temporary(path.parent, lambda file: file.write(text.encode()))
    try:
        os.replace(temporary, _facts_path(path))
    finally:
        remove(temporary)


def _facts_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def write_all(file: BinaryIO, data: bytes) -> None:
    """The one place where downloaded bytes are written. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


@contextlib.contextmanager
def as_download_error(path: Path) -> Iterator[None]:
    """What a drive can say, in words."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            text = f"The drive of {path.parent} is full; {path.name} is at {_size(path)}."
            raise NoRoom(text, "Make room and go on: what has come so far is kept.") from error
        if error.errno == errno.EFBIG:
            text = f"The drive of {path.parent} cannot hold a file as large as {path.name}."
            raise DownloadError(text, "Choose a folder on another drive.") from error
        text = f"{path} cannot be written: {error.strerror or error}."
        raise DownloadError(text, "Choose another folder, or make this one writable.") from error


def _size(path: Path) -> str:
    try:
        return size_text(path.stat().st_size)
    except OSError:
        return "nothing"


def _locked(file: BinaryIO) -> bool:
    """False when somebody else has it open."""
    try:
        if sys.platform == "win32":
            file.seek(_LOCK_AT)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0, os.SEEK_END)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A network drive may know no locks; then there is no second program on it that does.
        return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
    return True
