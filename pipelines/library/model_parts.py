"""Where the parts of a model come from: the folders and files that one of them is read from."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pipelines.library.header import PICKLES, WEIGHTS
from pipelines.library.own_facts import read_json
from pipelines.library.pieces import pieces
from pipelines.library.walk import INDEX
from pipelines.spec.errors import EngineError
from pipelines.spec.model_note import ModelPart
from pipelines.spec.record import ModelRecord

_WEIGHTS = (*WEIGHTS, *PICKLES)
_MAX_PARTS = 64


def parts_of(path: Path) -> tuple[ModelPart, ...]:
    """Of a diffusers folder each part that its index names, of another folder or a file in pieces the files.

    None of a single file. Names and sizes only: nothing is opened but the index. Never raises for a bad folder.
    """
    if not path.is_dir():
        files = pieces(path) if "-of-" in path.name else ()
        return tuple(ModelPart(name=each.name, size_bytes=_size(each)) for each in files)
    try:
        index = read_json(path / INDEX)
    except EngineError:
        return _files_as_parts(path)
    named = [(name, value) for name, value in index.items() if isinstance(value, list) and len(value) == 2]
    return tuple(_part(path, name, value[1]) for name, value in named[:_MAX_PARTS] if value[1])


def lent_parts(record: ModelRecord) -> tuple[ModelPart, ...]:
    """What the model takes out of other files, with their paths."""
    return tuple(
        ModelPart(name=part, what=path, size_bytes=_size(Path(path))) for part, path in record.borrowed
    )


def _files_as_parts(folder: Path) -> tuple[ModelPart, ...]:
    return tuple(ModelPart(name=name, size_bytes=_size(folder / name)) for name in _weights(folder))


def _part(folder: Path, name: str, what: object) -> ModelPart:
    inside = folder / name
    within = inside.parent == folder and inside.name != ".."  # an index may name what is not in the folder
    files = _weights(inside) if within else []
    size = sum(_size(inside / file) for file in files)
    return ModelPart(name=name[:80], what=str(what)[:80], files=tuple(files), size_bytes=size)


def _weights(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(name for name in os.listdir(folder) if name.lower().endswith(_WEIGHTS))
    return []


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
