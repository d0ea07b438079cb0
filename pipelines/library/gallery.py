"""What was made: the pictures in the output folder, newest first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.library.files import day_folders
from pipelines.library.pictures import SUFFIXES, UnreadablePicture, open_picture


@dataclass(frozen=True, slots=True)
class PictureEntry:
    """`created` in seconds since 1970; `width` and `height` in pixels, out of the file's header."""

    path: Path
    created: float
    width: int
    height: int


def newest_first(output_dir: Path, limit: int) -> list[PictureEntry]:
    """At most `limit` pictures, out of as few day folders as needed. What is no picture is not listed."""
    found: list[PictureEntry] = []
    for folder in day_folders(output_dir):
        for path, created in _files(folder):
            if len(found) >= limit:
                return found
            if entry := _entry(path, created):
                found.append(entry)
    return found


def _files(folder: Path) -> Iterator[tuple[Path, float]]:
    try:
        with os.scandir(folder) as entries:
            files = [
                (entry.stat().st_mtime_ns, entry.name)
                for entry in entries
                if os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file()
            ]
    except OSError:
        return
    for modified, name in sorted(files, reverse=True):
        yield folder / name, modified / 1e9


def _entry(path: Path, created: float) -> PictureEntry | None:
    try:
        with open_picture(path) as picture:
            return PictureEntry(path, created, *picture.size)
    except UnreadablePicture:
        return None
