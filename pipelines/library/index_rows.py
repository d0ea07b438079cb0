"""A record as the index keeps it: JSON of what differs from the defaults, without id and path twice."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from pipelines.library.version import program
from pipelines.spec.record import Format, Kind, ModelRecord, State
from pipelines.spec.request import Sampling

_DEFAULTS = {
    each.name: each.default for each in dataclasses.fields(ModelRecord) if each.name not in ("id", "path")
}
_PACKAGES = ("pipelines.library", "pipelines.spec")


def row_of(record: ModelRecord) -> str:
    """ASCII whatever is in the record."""
    values = {name: getattr(record, name) for name in _DEFAULTS}
    told = {name: value for name, value in values.items() if value != _DEFAULTS[name]}
    if record.sampling is not None:
        told["sampling"] = dataclasses.asdict(record.sampling)
    return json.dumps({"id": record.id, **told}, separators=(",", ":"))


def record_from(path: str, text: str) -> ModelRecord:
    """Raises ValueError, TypeError, KeyError or AttributeError for what `row_of` did not write."""
    told: dict[str, Any] = _loads(text)
    for name, value in told.items():
        if type(value) is list:
            told[name] = tuple(tuple(each) if type(each) is list else each for each in value)
    for name, kind in _ENUMS.items():
        if name in told:
            told[name] = kind[told[name]]
    if "sampling" in told:
        told["sampling"] = Sampling(**told["sampling"])
    return ModelRecord(path=path, **told)


def _loads(text: str) -> Any:
    """Halves of letters, as names of files hold them, are read by the slow way."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)


# A dictionary is several times as fast as the class, and there are thousands of rows.
_ENUMS: dict[str, dict[str, Any]] = {
    "kind": {kind.value: kind for kind in Kind},
    "format": {each.value: each for each in Format},
    "state": {state.value: state for state in State},
}


@cache
def recogniser() -> str:
    """What changes with the program or with any line of the code that recognises models, so that no row outlives it."""
    stats = []
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            stats += [path.stat() for path in sorted(Path(place).rglob("*.py"))]
    newest = max((stat.st_mtime_ns for stat in stats), default=0)
    return f"{program()} {len(stats)} {sum(stat.st_size for stat in stats)} {newest}"


def key_of(path: str) -> bytes:
    """A path may hold bytes that are no text."""
    return os.fsencode(path)
