"""Tensors out of weight files by plain reads, each once, straight to its place.

Never by a map: a mapped file that is cut, or whose drive goes away, ends the whole process with SIGBUS, while a read
answers with an error; and the pages of a map would count as a second copy of the weights.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipelines.library.places import Place, Source
from pipelines.library.single_file import GGUF_NUMBERS
from pipelines.runtime import gguf_weights, packed_weights
from pipelines.runtime.meter import Meter
from pipelines.runtime.stored import Stored
from pipelines.spec.errors import IncompleteModel, ModelError
from pipelines.spec.weights import NF4

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_CHUNK = 1 << 20  # bytes that are converted at once; more would leave the cache in between
_PIECE = 1 << 24  # bytes between two looks for a cancel

Dtype = Callable[[torch.dtype], torch.dtype]  # from the file's precision to that in memory


@dataclass(frozen=True, slots=True)
class Reader:
    """One file that is open, `room` for a tensor that goes elsewhere."""

    file: Any
    source: Source
    meter: Meter

    def fill(self, begin: int, room: torch.Tensor) -> torch.Tensor:
        """`room` [bytes] with what begins at byte `begin`. Raises IncompleteModel where the file ends before."""
        self.file.seek(begin)
        into = room.numpy().data
        while len(into):
            count = self.file.readinto(into[:_PIECE])
            if not count:
                text = f"The file ended while it was read: {self.source.path}"
                raise IncompleteModel(text, "Is something else writing it? Then try again once it is done.")
            self.meter.read(count)
            into = into[count:]
        return room

    def whole(self, place: Place, room: torch.Tensor | None = None) -> torch.Tensor:
        """The tensor as it is in the file, in the bytes of `room` where that is given."""
        size = place.size_bytes
        if place.beside:
            return self._widened(place)
        room = torch.empty(size, dtype=torch.uint8) if room is None else room[:size]
        if _is_packed(place):
            return gguf_weights.packed(self.fill(place.begin, room), place)
        return self.fill(place.begin, room).view(dtype_of(place)).view(place.shape)

    def _widened(self, place: Place) -> torch.Tensor:
        """float32 of numbers in few bits, which tensors beside them are needed for."""
        bare = replace(place, beside={})
        if place.dtype == NF4.kind:
            return packed_weights.widened_nf4(self._raw(place), place, self.whole)
        return packed_weights.scaled(self.whole(bare), place, self.whole)

    def packed(self, place: Place) -> torch.Tensor:
        """The tensor in its blocks; NF4 with a table of its own, which has no such blocks, as `whole` answers it."""
        small = packed_weights.nf4_blocks(self._raw(place), place, self.whole) if place.stays_nf4 else None
        return self.whole(place) if small is None else small

    def _raw(self, place: Place) -> torch.Tensor:
        return self.fill(place.begin, torch.empty(place.size_bytes, dtype=torch.uint8))

    def converted(self, place: Place, dtype: torch.dtype, room: torch.Tensor) -> torch.Tensor:
        """The tensor in another precision, through as much of `room` as the processor's own memory holds."""
        own = dtype_of(place)
        if own is dtype:
            return self.whole(place)
        result = torch.empty(place.shape, dtype=dtype)
        flat, step = result.view(-1), _CHUNK // own.itemsize
        for first in range(0, flat.numel(), step):
            part = flat[first : first + step]
            piece = room[: part.numel() * own.itemsize]
            part.copy_(self.fill(place.begin + first * own.itemsize, piece).view(own))
        return result


@contextmanager
def reading(source: Source, meter: Meter) -> Iterator[Reader]:
    """Raises ModelError for a file that is gone, not the one whose table was read, or changed meanwhile."""
    try:
        with open(source.path, "rb", buffering=0) as file:
            _same(source, file)
            yield Reader(file, source, meter)
            _same(source, file)
    except OSError as error:
        text = f"The file cannot be read any more: {source.path} ({error.strerror})"
        raise ModelError(text, "Is its drive still connected?") from error


def _same(source: Source, file: Any) -> None:
    if not source.is_of(os.fstat(file.fileno())):
        text = f"The file was changed while it was read: {source.path}"
        raise ModelError(text, "Is something else writing it? Then try again once it is done.")


def tensors(
    names: Mapping[str, Stored], dtype: Dtype, device: torch.device, meter: Meter
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each of `names` as it is wanted, in memory of its own on the device.

    In the order of the files, which a disk reads fastest. A tensor from which several are cut is read once.
    Raises ModelError as `reading` does, and for numbers of an unknown kind; Cancelled.
    """
    by_file = defaultdict[Source, list[tuple[str, Stored]]](list)
    for name, stored in names.items():
        by_file[stored.source].append((name, stored))
    for source, own in by_file.items():
        own.sort(key=lambda item: item[1].place.begin)
        with reading(source, meter) as reader:
            yield from _of_file(reader, own, dtype, device)


def _of_file(
    reader: Reader, own: list[tuple[str, Stored]], dtype: Dtype, device: torch.device
) -> Iterator[tuple[str, torch.Tensor]]:
    cut = [s.place.size_bytes for _, s in own if not _is_direct(s, device) and not s.place.beside]
    room = torch.empty(max((_CHUNK, *cut)), dtype=torch.uint8)
    inside, whole = "", room
    for name, stored in own:
        reader.meter.check()
        place = stored.place
        if _stays_packed(stored):  # blocks of bits stay as they are
            tensor = reader.packed(place)
            for step in stored.then:
                tensor = step(tensor).clone()
            if gguf_weights.is_packed(tensor):
                yield name, tensor.to(device)
            else:
                yield name, tensor.to(device, dtype(tensor.dtype))
            continue
        wanted = dtype(dtype_of(place))
        if _is_direct(stored, device):
            yield name, reader.converted(place, wanted, room)
            continue
        if inside != stored.name:
            inside, whole = stored.name, reader.whole(place, room)
        made = stored.made(whole)
        yield name, made.to(device, wanted, copy=True, memory_format=torch.contiguous_format)


def _is_direct(stored: Stored, device: torch.device) -> bool:
    """Whether the numbers of the file are those of the weight, in their order and on this side."""
    return device.type == "cpu" and not stored.then and not stored.place.beside


def _stays_packed(stored: Stored) -> bool:
    """What is cut out of NF4 is cut between rows."""
    place = stored.place
    if place.stays_nf4:
        return not stored.then or place.shape[-1] % NF4.numbers == 0
    return _is_packed(place)


def _is_packed(place: Place) -> bool:
    return place.dtype in GGUF_NUMBERS and place.dtype not in DTYPES


def dtype_of(place: Place) -> torch.dtype:
    """In which `Reader.whole` answers."""
    if place.beside:
        return torch.float32
    if place.dtype not in DTYPES:
        raise ModelError(f"Numbers of the type '{place.dtype}' cannot be loaded.", "Choose another model.")
    return DTYPES[place.dtype]
