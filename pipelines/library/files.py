"""Files that appear whole or not at all, and never over another."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# Ours and nobody else's: the sweep deletes by this name.
_TEMPORARY = re.compile(r"\.emulsion-[0-9a-f]{16}\.(tmp|claim)")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EINVAL}


def write_temporary(folder: Path, write: Callable[[BinaryIO], object]) -> Path:
    """A file in `folder`, on the disk, with a name that no gallery reads; none is left if `write` fails."""
    path = folder / f".emulsion-{os.urandom(8).hex()}.tmp"
    try:
        with path.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        remove(path)
        raise
    return path


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """`path`, on the disk. Raises FileExistsError where it is there, and what `write` does; then nothing is left."""
    _published(write_temporary(path.parent, write), path)


def write_whole_by_name(path: Path, write: Callable[[Path], object]) -> None:
    """The same with one that makes the file of this name by itself."""
    temporary = path.parent / f".emulsion-{os.urandom(8).hex()}.tmp"
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    except BaseException:
        remove(temporary)
        raise
    _published(temporary, path)


def _published(temporary: Path, path: Path) -> None:
    try:
        publish(temporary, path)
    finally:
        remove(temporary)


def publish(temporary: Path, path: Path) -> None:
    """Gives `temporary` its final name in one step. Raises FileExistsError rather than replace a file."""
    if sys.platform == "win32":
        os.rename(temporary, path)  # Windows refuses an existing name
        return
    try:
        os.link(temporary, path)
        remove(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_claimed(temporary, path)
    _sync_folder(path.parent)


def _rename_claimed(temporary: Path, path: Path) -> None:
    """For disks without hard links (FAT, some network drives): whoever makes the claim first may rename."""
    claim = path.parent / f".emulsion-{_mark(path.name)}.claim"
    os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        os.rename(temporary, path)
    finally:
        remove(claim)


def _mark(name: str) -> str:
    return hashlib.sha256(name.casefold().encode()).hexdigest()[:16]


def _sync_folder(folder: Path) -> None:
    """The new name itself reaches the disk; a file system that cannot do it has said so and is left alone."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def day_folders(output_dir: Path) -> list[Path]:
    """The folders named YYYY-MM-DD, newest first; none when there is no such folder yet."""
    try:
        with os.scandir(output_dir) as entries:
            names = [e.name for e in entries if _DAY.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [output_dir / name for name in sorted(names, reverse=True)]


def sweep_temporaries(output_dir: Path, older_than_s: float = 3600.0) -> int:
    """Deletes what a killed process left half-written: our own names, and old ones only. Returns how many."""
    oldest = time.time() - older_than_s
    swept = 0
    for folder in day_folders(output_dir):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if not _TEMPORARY.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                if entry.stat(follow_symlinks=False).st_mtime <= oldest:
                    remove(Path(entry.path))
                    swept += 1
    return swept
