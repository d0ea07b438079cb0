"""`Weightless`: torch without arithmetic. What it would answer has the right shape, and takes no memory and no time.

Large tensors are true ones on the processor, in pages of zeros that nobody touches, so that the system gives them no
memory; the operations on them are not done. Small ones are computed, as code asks them what to do next. So parameters,
views, buffers and storages are what they are on any day, and all of the engine runs on networks of any size.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from pipelines.runtime import device as devices
from pipelines.runtime import gguf_weights
from pipelines.runtime.attention.chosen import ChosenAttention
from pipelines.runtime.reading import Reader
from pipelines.spec.weights import BLOCK, WEIGHTS
from tests.runtime.fake_card import tensors_in

_META = torch.device("meta")
PAGED = 1 << 16  # bytes
FEW = 1 << 14  # numbers; operations on so many are done
_ATEN = torch.ops.aten
_SHARES = _ATEN._unsafe_view.default  # though its schema does not say so
_MOVES = {_ATEN.set_.source_Storage_storage_offset, _ATEN.set_.source_Tensor, _ATEN.resize_.default}
_EMPTY = {_ATEN.empty.memory_format, _ATEN.zeros.default, _ATEN.ones.default, _ATEN.full.default}
_GROWING = {_ATEN.new_zeros.default, _ATEN.new_empty.default}
_FINITE = _ATEN.all.default  # asked of numbers that are not there


@dataclass(frozen=True, slots=True)
class _Like:
    """Of a tensor, all but its numbers."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def made(self) -> torch.Tensor:
        span = sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True)) + 1
        size = span * self.dtype.itemsize if 0 not in self.shape else 0
        return _zeros(size).view(self.dtype).as_strided(self.shape, self.stride)


def _zeros(size: int) -> torch.Tensor:
    """So many bytes. Of its own pages, as a heap would write zeros into those that it gives out a second time."""
    if size < PAGED:
        return torch.from_numpy(numpy.zeros(size, numpy.uint8))
    return torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8)


class Weightless(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Any, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_view(func) or func in _MOVES:
            return func(*args, **kwargs)
        tensors = [*tensors_in(args), *tensors_in(kwargs.values())]
        on_meta = kwargs.get("device") == _META or any(tensor.is_meta for tensor in tensors)
        if on_meta or _is_small(func, args, tensors):
            return func(*args, **kwargs)
        if func is _FINITE:
            return torch.ones((), dtype=torch.bool)
        if func._schema.is_mutable:
            return _written(func, args, kwargs)
        key = (func, _told(args), _told(kwargs.values()), *kwargs)
        if key not in self._known:
            self._known[key] = _answer(func, args, kwargs)
        return _made(self._known[key])


def _is_small(func: Any, args: Any, tensors: list[torch.Tensor]) -> bool:
    """Whether it is done: of few numbers, and none that makes many of them."""
    if func in _EMPTY:
        return torch.Size(args[0]).numel() <= FEW
    return func not in _GROWING and all(tensor.numel() <= FEW for tensor in tensors)


def _told(values: Iterable[Any]) -> tuple[Any, ...]:
    """All that the shape of an answer can depend on. True is no 1 here, as the type of a number counts."""
    return tuple(
        (value.shape, value.stride(), value.dtype) if isinstance(value, torch.Tensor)
        else _told(value) if isinstance(value, list | tuple)
        else (type(value), value)
        for value in values
    )  # fmt: skip


def _answer(func: Any, args: Any, kwargs: Any) -> Any:
    """What torch says of tensors on its meta device, which have no numbers: a `_Like`, or several."""
    args, kwargs = tree_map(_on_meta, (args, kwargs))
    return tree_map(_like, func(*args, **kwargs))


def _on_meta(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=_META)
    if isinstance(leaf, torch.device):
        return _META
    return None if isinstance(leaf, torch.Generator) else leaf


def _like(leaf: Any) -> Any:
    return _Like(tuple(leaf.shape), leaf.stride(), leaf.dtype) if isinstance(leaf, torch.Tensor) else leaf


def _made(answer: Any) -> Any:
    if isinstance(answer, _Like):
        return answer.made()
    return type(answer)(_made(each) for each in answer) if isinstance(answer, list | tuple) else answer


@cache
def _is_view(func: Any) -> bool:
    """Whether it answers with the storage that it was given."""
    told = [result.alias_info for result in func._schema.returns]
    return func is _SHARES or (bool(told) and all(info is not None and not info.is_write for info in told))


def _written(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation answers that writes into what it was given."""
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    written = [given.get(name) for name in _writes(func)]
    count = len(func._schema.returns)
    return tuple(written[:count]) if count > 1 else (written[0] if count else None)


@cache
def _writes(func: Any) -> tuple[str, ...]:
    arguments = func._schema.arguments
    return tuple(a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write)


def _packed(wide: torch.Tensor, kind: str) -> torch.Tensor:
    """As quantise.py has it."""
    if kind == "F8_E4M3":
        return torch.empty(wide.shape, dtype=torch.float8_e4m3fn)
    row = next(row for row in WEIGHTS if row.kind == kind)
    return torch.empty(wide.numel() // BLOCK, row.block, dtype=torch.int8)


@contextmanager
def weightless(patches: pytest.MonkeyPatch) -> Iterator[Weightless]:
    """The engine reads no weight of a file, and computes in 16 bits, as a card does."""

    def unread(self: Reader, begin: int, room: torch.Tensor) -> torch.Tensor:
        self.meter.read(room.numel())
        return room

    with patches.context() as patch, Weightless() as mode:
        patch.setattr(Reader, "fill", unread)
        patch.setattr(devices, "computes_in", lambda device, dtype: True)
        patch.setattr(gguf_weights, "quantised", _packed)
        # Trials compare numbers; torch's own choice is a tiled kernel, as those are that it would be tried against.
        patch.setattr(ChosenAttention, "kernels", lambda *_: {})
        yield mode
