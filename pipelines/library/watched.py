"""Which folders to watch for models that come and go, and what shows that files in them are still being written."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from pipelines.library.trees import expanded
from pipelines.library.walk import MAX_DEPTH, may_hold

MAX_FILES = 20_000
_BELOW = 3  # folders under one that changed: a whole model may have come at once

Sizes = dict[str, tuple[int, int]]


def watched_folders(roots: Iterable[Path], most: int) -> tuple[str, ...]:
    """The folders that a scan of `roots` reads and those in models, at most `most`, the upper ones first.

    Of a root that is not there yet, the folder that it would be in.
    """
    roots = tuple(Path(os.path.abspath(root)) for root in roots)
    queue = deque((str(folder), MAX_DEPTH + 1) for folder in expanded(roots))
    found = dict.fromkeys(str(root.parent) for root in roots if not root.is_dir() and root.parent.is_dir())
    seen: set[str] = set()
    while queue and len(found) < most:
        folder, depth = queue.popleft()
        try:
            real = os.path.realpath(folder, strict=True)
            if real in seen:
                continue
            seen.add(real)
            with os.scandir(folder) as entries:
                below = sorted(entry.path for entry in entries if depth and may_hold(entry))
        except (OSError, RuntimeError):
            continue
        found[folder] = None
        queue.extend((path, depth - 1) for path in below)
    return tuple(found)[:most]


def sizes(folders: Iterable[str]) -> Sizes:
    """Size and time (ns) of each file in these folders and a little below, at most MAX_FILES; -1 of a folder."""
    found: Sizes = {}
    queue = deque((folder, _BELOW) for folder in folders)
    while queue and len(found) < MAX_FILES:
        folder, depth = queue.popleft()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if may_hold(entry):
                        found[entry.path] = (-1, 0)
                        if depth:
                            queue.append((entry.path, depth - 1))
                    elif entry.is_file():
                        stat = entry.stat()
                        found[entry.path] = (stat.st_size, stat.st_mtime_ns)
        except OSError:
            continue
    return found
