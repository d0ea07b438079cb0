"""Where models lie under the model folders: weight files and model folders, and what shows that one has changed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.library.beside import ends_among
from pipelines.library.controlnets import CONFIG, is_controlnet
from pipelines.library.header import PICKLES, WEIGHTS
from pipelines.library.hub_cache import snapshot_of
from pipelines.library.pieces import is_later_piece, pieces

MAX_DEPTH = 4
INDEX = "model_index.json"
_IN_A_MODEL = 3  # a folder's parts and what is in them
_PROGRAMS = ("venv", "node_modules", "site-packages", "__pycache__")  # thousands of files, and none a model
_ENDS = (*WEIGHTS, *PICKLES)
_UNFINISHED = ".part"  # a folder that is still being downloaded
Entries = dict[str, os.DirEntry[str]]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A weight file or a model's folder; `path` is absolute.

    `stamp` is the size and the time of the file, empty of a folder; `mark` tells the same of all else that its record
    depends on. Both serve to be compared only. `ends` are those of the files beside it that tell of it.
    """

    path: str
    stamp: str
    mark: str
    ends: tuple[str, ...] = ()


def walk(roots: Iterable[Path]) -> Iterator[Found]:
    """Every diffusers folder and weight file under `roots`, at most MAX_DEPTH folders down, in order of root and name.

    Links are followed, but each real folder is visited once, so a loop of links ends. A folder that cannot be read is
    left out, and so are hidden ones and those of programs. Of a repository in the hub's cache one revision is visited.
    """
    seen: set[str] = set()
    for root in roots:
        yield from _below(os.path.abspath(root), MAX_DEPTH, seen)


def is_model(folder: Path) -> bool:
    """Whether the folder is one model, rather than a place where models lie."""
    return (folder / INDEX).is_file() or ((folder / CONFIG).is_file() and is_controlnet(folder))


def _below(folder: str, depth: int, seen: set[str]) -> Iterator[Found]:
    """A folder with a config.json is a part of a model, and so are the files in it."""
    try:
        folder = snapshot_of(folder) or folder
        real = os.path.realpath(folder, strict=True)
        if real in seen:
            return
        seen.add(real)
        if is_model(Path(folder)):
            yield Found(folder, "", _mark_of_all(folder))
            return
        with os.scandir(folder) as listed:
            entries = {entry.name: entry for entry in sorted(listed, key=lambda entry: entry.name)}
        files = [] if CONFIG in entries else list(_files(entries))
        below = [entry.path for entry in entries.values() if depth and may_hold(entry)]
    except (OSError, RuntimeError) as error:
        _LOG.info("not scanned: %s (%s)", folder, error)
        return
    yield from files
    for path in below:
        yield from _below(path, depth - 1, seen)


def _files(entries: Entries) -> Iterator[Found]:
    weights = [entry for name, entry in entries.items() if name.lower().endswith(_ENDS)]
    # Most folders hold nothing but weights; then there is nothing to look for beside each of them.
    sides = len(weights) < len(entries)
    yield from (found for entry in weights if (found := _file(entry, entries, sides)))


def _file(entry: os.DirEntry[str], entries: Entries, sides: bool) -> Found | None:
    """None for what is no weight file. A pipe is no file: reading it would never end."""
    name = entry.name
    if name.startswith(".") or not _is_file(entry):
        return None
    piece = "-of-" in name
    if piece and is_later_piece(Path(entry.path)):
        return None
    stem = name.rpartition(".")[0]
    ends = ends_among(stem, entries) if sides else ()
    ends = tuple(end for end in ends if _is_file(entries[stem + end])) if ends else ends
    mark = [f"{end} {_stamp(entries[stem + end])}" for end in ends]
    if piece:
        mark += [_stamp(entries[each.name]) for each in pieces(Path(entry.path)) if each.name in entries]
    return Found(entry.path, _stamp(entry), " ".join(mark), ends)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """A link to itself is nothing; to ask it raises."""
    try:
        return entry.is_file()
    except OSError:
        return False


def may_hold(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    return (
        not name.startswith(".")
        and not name.endswith(_UNFINISHED)
        and name not in _PROGRAMS
        and _is_folder(entry)
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stamp(entry: os.DirEntry[str]) -> str:
    """Of a file; 'gone' of a link that leads nowhere."""
    try:
        stat = entry.stat()
    except OSError:
        return "gone"
    return stamp_of(stat)


def stamp_of(stat: os.stat_result) -> str:
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def _mark_of_all(folder: str) -> str:
    digest = hashlib.sha256()
    for line in _lines(folder, _IN_A_MODEL):
        digest.update(os.fsencode(line) + b"\0")
    return digest.hexdigest()


def _lines(folder: str, depth: int) -> Iterator[str]:
    with os.scandir(folder) as listed:
        entries = sorted(listed, key=lambda entry: entry.name)
    for entry in entries:
        if not _is_folder(entry):
            yield f"{entry.path} {_stamp(entry)}"
        elif depth:
            yield from _lines(entry.path, depth - 1)
