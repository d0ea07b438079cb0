"""A card of so many bytes that does not exist: it computes in RAM, but counts, and refuses what a card would refuse."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from pipelines.runtime import decoding, sampling
from pipelines.runtime.adapters import Adapters
from pipelines.runtime.card import Card
from pipelines.runtime.compute import Compute
from pipelines.runtime.movers import InRam
from pipelines.runtime.text.prompts import PromptEncoder


class Memory:
    """What lies on the card: rooms of weights, and whatever computing makes. Raises OutOfMemoryError above `limit`.

    `most` is since the last mark of the card, `ever` since it was made.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = self.most = self.ever = 0
        self.homes: set[int] = set()  # addresses of the buffers in RAM in which weights wait

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """Counted until nobody holds its storage any more."""
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if self.used + size > self.limit:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes")
        self.used += size
        self.most, self.ever = max(self.most, self.used), max(self.ever, self.used)
        weakref.finalize(storage, self._give_back, size)
        return tensor

    def _give_back(self, size: int) -> None:
        self.used -= size


class Counted(TorchDispatchMode):
    """Every new storage is the card's. What waits in RAM can be copied, but a card cannot compute with it."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = {_address(tensor) for tensor in tensors_in((*args, *kwargs.values()))}
        if not known.isdisjoint(self._memory.homes) and not _is_copy_or_view(func):
            raise RuntimeError(f"{func} was asked of the card for weights that are in RAM")
        found = func(*args, **kwargs)
        for tensor in tensors_in((found,)):
            if _address(tensor) not in known:
                self._memory.take(tensor)
        return found


def tensors_in(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Also in lists. torch's own walk through arguments takes most of the time of a step of a large network."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def _is_copy_or_view(func: Any) -> bool:
    copies = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
    return func in copies or any(result.alias_info for result in func._schema.returns)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class CountingMover(InRam):
    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.copied = 0

    def host(self, size: int) -> torch.Tensor:
        """Known for as long as it is there: its address is another tensor's afterwards."""
        buffer = super().host(size)
        if size:
            address = _address(buffer)
            self._memory.homes.add(address)
            weakref.finalize(buffer.untyped_storage(), self._memory.homes.discard, address)
        return buffer

    def room(self, size: int) -> torch.Tensor:
        return self._memory.take(super().room(size))

    def copy(self, into: torch.Tensor, source: torch.Tensor, after: Any) -> Any:
        self.copied += source.nbytes
        super().copy(into, source, after)


class FakeCard(Card):
    """`memory` counts; what computing makes is counted while `counting` is entered."""

    def __init__(self, limit: int) -> None:
        self.memory = Memory(limit)
        self.mover_ = CountingMover(self.memory)
        super().__init__(torch.device("cpu"), self.mover_, apart=True)

    def free(self) -> int:
        return self.memory.limit - self.memory.used

    def release(self) -> None:
        """As the real one: what only a cycle holds, such as the frames of a recovered error, goes."""
        gc.collect()

    def mark(self) -> None:
        self.memory.most = self._start = self.memory.used

    def taken(self) -> int:
        return self.memory.most - self._start


@contextmanager
def counting(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, decode: bool = True, encode: bool = True
) -> Iterator[None]:
    """The places where the engine computes; text encoders may do so elsewhere."""

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def working(*args: Any, **kwargs: Any) -> Any:
            with Counted(memory):
                return work(*args, **kwargs)

        return working

    with monkeypatch.context() as patch:
        if encode:
            patch.setattr(PromptEncoder, "_encode", counted(PromptEncoder._encode))
        patch.setattr(sampling, "_drawn", counted(sampling._drawn))
        patch.setattr(Adapters, "settle", counted(Adapters.settle))
        if decode:
            patch.setattr(decoding, "decode", counted(decoding.decode))
        yield


def counting_weights(compute: Compute, card: FakeCard) -> Callable[..., Any]:
    """What is loaded straight to the card takes room there as well; what has a home in RAM is brought in rooms."""
    load_all, known = compute.load_all, WeakIdKeyDictionary()

    def loading(job, roles, meter):
        models = load_all(job, roles, meter)
        direct = () if compute._loader.in_ram else models
        for part in [p for m in direct for name, p in m.parts.items() if not m.keys[name].beside]:
            if compute.lodging.has(part):
                continue
            for weight in part.parameters() if isinstance(part, torch.nn.Module) else ():
                if weight not in known:
                    known[weight] = True
                    card.memory.take(weight)
        return models

    return loading
