"""Single safetensors files -> tensors, kept in the store like the parts of a model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines.library.places import Place, Source, described
from pipelines.runtime.components import PartKey, Stamp
from pipelines.runtime.conditioning.base import Work
from pipelines.runtime.meter import Meter
from pipelines.runtime.reading import DTYPES, reading, tensors
from pipelines.runtime.stored import stored_at
from pipelines.spec.errors import ModelError
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord

Tensors = dict[str, torch.Tensor]

_AT_ONCE = 1 << 26  # bytes of a file


@dataclass(frozen=True, slots=True)
class Content:
    """`tensors` in float32 on the CPU as they are in the file, and the file's metadata."""

    tensors: Tensors
    metadata: Mapping[str, str]

    def json(self, name: str) -> dict[str, Any]:
        """The metadata's entry `name`, where it is a JSON object; else nothing."""
        try:
            value = json.loads(self.metadata.get(name, ""))
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


def read(path: Path, job: Job) -> Content:
    """Raises ModelError for a file that cannot be read, Cancelled between tensors."""
    source, table, metadata = described(path)
    meter = Meter(job)
    plain = all(not place.beside and place.dtype in DTYPES for place in table.values())
    if plain and source.size_bytes <= _AT_ONCE:
        return Content(_at_once(source, table, meter), metadata)
    names = {name: stored_at(name, place, source) for name, place in table.items()}
    return Content(dict(tensors(names, lambda _: torch.float32, torch.device("cpu"), meter)), metadata)


def _at_once(source: Source, table: Mapping[str, Place], meter: Meter) -> Tensors:
    """By one read, and widened in one go: these files have hundreds of tensors of a few kilobytes."""
    places = [*table.values()]
    first = min((place.begin for place in places), default=0)
    end = max((place.begin + place.size_bytes for place in places), default=0)
    with reading(source, meter) as reader:
        data = reader.fill(first, torch.empty(end - first, dtype=torch.uint8))
    dtype = _only_dtype(places, first)
    if dtype is None:
        return {name: _of(data[place.begin - first :], place) for name, place in table.items()}
    wide, size = data.view(dtype).float(), dtype.itemsize
    spans = {name: ((place.begin - first) // size, place.size_bytes // size) for name, place in table.items()}
    return {name: wide[at : at + count].view(table[name].shape) for name, (at, count) in spans.items()}


def _only_dtype(places: Sequence[Place], first: int) -> torch.dtype | None:
    """Of all of them, where they lie as numbers of it do from byte `first` on."""
    kinds = {place.dtype for place in places}
    if len(kinds) != 1:
        return None
    dtype = DTYPES[kinds.pop()]
    return None if any((place.begin - first) % dtype.itemsize for place in places) else dtype


def _of(data: torch.Tensor, place: Place) -> torch.Tensor:
    """The tensor with which `data` begins, wherever that lies in memory."""
    return data[: place.size_bytes].clone().view(DTYPES[place.dtype]).view(place.shape).float()


def key_of(record: ModelRecord, work: Work) -> PartKey:
    return key(record, work.dtype, work.device)


def key(record: ModelRecord, dtype: torch.dtype, device: torch.device) -> PartKey:
    """Changes with the file, and with the precision and the device that it is read for."""
    return PartKey(record.path, _stamp(record.path), str(dtype), str(device))


def kept(record: ModelRecord, work: Work, load: Callable[[], Any]) -> Any:
    """What `load` makes of the record's file, read once for as long as it and the store are as they are."""
    work.job.check()
    return work.store.get(key_of(record, work), load)


def _stamp(path: str) -> Stamp:
    try:
        stat = os.stat(path)
    except OSError as error:
        text = f"This file of the request is gone: {path}"
        raise ModelError(text, "Was it moved, renamed or deleted?") from error
    return ((os.path.basename(path), stat.st_size, stat.st_mtime_ns),)
