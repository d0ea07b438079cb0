"""The cache of the Hugging Face hub: `models--OWNER--NAME/snapshots/REVISION/`, whose files are links to blobs."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.library.beside import read_small

_PREFIX = "models--"


def snapshot_of(folder: str) -> str:
    """Of a repository's folder the one revision to use: what `main` is, else the newest; empty of any other folder."""
    if not os.path.basename(folder).startswith(_PREFIX):
        return ""
    snapshots = os.path.join(folder, "snapshots")
    try:
        with os.scandir(snapshots) as listed:
            times = {entry.name: entry.stat().st_mtime_ns for entry in listed if entry.is_dir()}
    except OSError:
        return ""
    if not times:
        return ""
    main = _main(folder)
    return os.path.join(
        snapshots, main if main in times else max(times, key=lambda name: (times[name], name))
    )


def _main(folder: str) -> str:
    try:
        return read_small(Path(folder, "refs", "main"), 200).decode("ascii", "replace").strip()
    except OSError:
        return ""


def repository_name(path: Path) -> str:
    """'sdxl-turbo' for the folder .../models--stabilityai--sdxl-turbo/snapshots/1f2e3d; empty for any other."""
    if path.parent.name != "snapshots" or not path.parent.parent.name.startswith(_PREFIX):
        return ""
    return path.parent.parent.name.rpartition("--")[2]
