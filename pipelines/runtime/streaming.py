"""`Streamed`: a network of which some blocks lie in RAM and come to the device just before they compute.

Each streamed block is packed once into one flat buffer of the host, pinned where the device copies by itself, and is
one copy to its place in the arena (schedule.py). Its parameters are views of that place, so that nothing is allocated
or pointed elsewhere while the network runs, and the picture is bit-equal to that of a network that lies there whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers.quantizers.gguf.utils import GGUFParameter
from torch import nn

from pipelines.runtime.movers import Mover
from pipelines.runtime.nf4 import NF4Parameter
from pipelines.runtime.schedule import aligned, schedule
from pipelines.runtime.turns import Turns
from pipelines.spec.blocks import block_of, order_of

_INSIDE = 16  # bytes; where a parameter begins within its block, for the widest loads
_KINDS = (
    nn.Parameter,
    torch.Tensor,
    GGUFParameter,
    NF4Parameter,
)  # others keep their numbers in tensors of their own


def blocks_of(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks by their names, in their order of compute."""
    found = {name: module for name, module in network.named_modules() if block_of(name) == name}
    return {name: found[name] for name in sorted(found, key=order_of)}


@dataclass(frozen=True, slots=True)
class _Row:
    """One tensor of a buffer: where its bytes begin, and how they are to be read."""

    tensor: torch.Tensor
    begin: int
    dtype: torch.dtype
    shape: torch.Size
    strides: tuple[int, ...]

    def within(self, buffer: torch.Tensor) -> torch.Tensor:
        size = self.shape.numel() * self.dtype.itemsize
        return buffer[self.begin : self.begin + size].view(self.dtype).as_strided(self.shape, self.strides)


@dataclass(frozen=True, slots=True)
class Packed:
    """Tensors in one flat buffer of the host, which is where they point while they are not on the device."""

    buffer: torch.Tensor
    rows: tuple[_Row, ...]

    def point(self, buffer: torch.Tensor) -> None:
        """The tensors are views of `buffer` from now on."""
        for row in self.rows:
            row.tensor.data = row.within(buffer)


class Home:
    """All of a network's weights in the host's memory: one buffer a block, and one for the rest of it.

    Packed once, before anything is added to the network, and never written after; what LoRAs change is on the device.
    """

    def __init__(self, network: nn.Module, mover: Mover) -> None:
        self.network = network
        self.mover = mover
        self.blocks = [*blocks_of(network).values()]
        shared = _shared(self.blocks)
        self.packed = [pack(block.named_parameters(), mover, shared) for block in self.blocks]
        done = {id(row.tensor) for packed in self.packed for row in packed.rows}
        others = [*network.named_parameters(), *network.named_buffers()]
        self.rest = pack(others, mover, done)
        packs = [(index, packed) for index, packed in enumerate(self.packed)]
        self._rows = {
            id(row.tensor): (i, p.buffer, row) for i, p in [*packs, (-1, self.rest)] for row in p.rows
        }

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each block."""
        return tuple(packed.buffer.numel() for packed in self.packed)

    @property
    def size_bytes(self) -> int:
        return self.rest.buffer.numel() + sum(self.sizes)

    def whole(self, weight: torch.Tensor) -> torch.Tensor:
        """One of the network's own as it lies here."""
        _, buffer, row = self._rows[id(weight)]
        return row.within(buffer)

    def block_of(self, weight: torch.Tensor) -> int:
        """The place of its block among all; -1 where it is in none."""
        return self._rows[id(weight)][0]

    @contextmanager
    def visiting(self, streamed: Sequence[int] = (), slots: float = 2) -> Iterator[Visit]:
        """On the device for as long as the context lasts; the blocks `streamed` come through an arena."""
        which = {*streamed}
        stays_home = {id(row.tensor) for i in which for row in self.packed[i].rows}
        whole = [self.rest, *(p for i, p in enumerate(self.packed) if i not in which)]
        held = list[torch.Tensor]()  # alive until all is computed
        with ExitStack() as undo:
            undo.callback(self.mover.settle)
            free = self.mover.computed()
            for packed in whole:
                room = self.mover.room(packed.buffer.numel())
                held.append(room)
                undo.callback(packed.point, packed.buffer)
                self.mover.wait(self.mover.copy(room, packed.buffer, free))
                packed.point(room)
            for tensor in (*self.network.parameters(), *self.network.buffers()):
                if tensor.device.type != self.mover.device.type and id(tensor) not in stays_home:
                    undo.callback(setattr, tensor, "data", tensor.data)
                    tensor.data = tensor.data.to(self.mover.device)
            own = [self.packed[i] for i in streamed]
            streams = undo.enter_context(Streamed(self.blocks, streamed, slots, self.mover, own))
            visit = Visit(self, streams)
            undo.callback(visit.end)
            yield visit


class Visit:
    """A network's stay on the device, until it is `over`."""

    def __init__(self, home: Home, streamed: Streamed) -> None:
        self.home = home
        self._streamed = streamed
        self.over = False

    def streams(self, weight: torch.Tensor) -> bool:
        return self.home.block_of(weight) in self._streamed.arrived

    def changes(self, weight: torch.Tensor) -> dict[int, Callable[[], None]]:
        """What is done each time the block of this weight has arrived."""
        return self._streamed.arrived[self.home.block_of(weight)]

    def end(self) -> None:
        self.over = True


class Streamed:
    """A context in which `streamed` (places among `blocks`) come through `slots` times the largest of them.

    `blocks` are all in their order of compute, the others on the device already. Packs when it is built, which
    moves the parameters to the flat buffers for good; may be entered again and again, on one thread. Inside the
    context a streamed parameter holds what was copied last, so nobody but the block itself may read it, and what is in
    `arrived` for its place: that is called each time, before it computes.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        streamed: Sequence[int],
        slots: float,
        mover: Mover,
        packed: Sequence[Packed] | None = None,
    ) -> None:
        self._blocks = blocks
        self._mover = mover
        if packed is None:
            shared = _shared(blocks)
            packed = [pack(blocks[index].named_parameters(), mover, shared) for index in streamed]
        self._packed = packed
        sizes = [0] * len(blocks)
        for index, own in zip(streamed, self._packed, strict=True):
            sizes[index] = own.buffer.numel()
        self.schedule = schedule(sizes, streamed, int(slots * aligned(max(sizes, default=0))))
        self.arrived: dict[int, dict[int, Callable[[], None]]] = {index: {} for index in streamed}
        self._handles: list[Any] = []
        self._arena: torch.Tensor | None = None

    def __enter__(self) -> Self:
        """Takes the arena's memory. Raises what the device raises when it is out of it; nothing is changed then."""
        if not self.schedule.streamed:
            return self
        self._arena = self._mover.room(self.schedule.arena)
        try:
            for packed, offset in zip(self._packed, self.schedule.offsets, strict=True):
                packed.point(self._arena[offset : offset + packed.buffer.numel()])
            turns = Turns(self.schedule, self)
            for index in self.schedule.streamed:
                self._handles += _listening(self._blocks[index], index, turns, self.arrived[index])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Also in the middle of a step: no parameter is left in the arena."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for packed in self._packed:
            packed.point(packed.buffer)
        self._mover.settle()
        self._arena = None

    def copy(self, streamed: int, after: Any) -> Any:
        assert self._arena is not None
        source, offset = self._packed[streamed].buffer, self.schedule.offsets[streamed]
        return self._mover.copy(self._arena[offset : offset + source.numel()], source, after)

    def wait(self, arrived: Any) -> None:
        self._mover.wait(arrived)

    def computed(self) -> Any:
        return self._mover.computed()


def _listening(
    block: nn.Module, index: int, turns: Turns, arrived: Mapping[int, Callable[[], None]]
) -> list[Any]:
    """The wait comes first and the mark last of all that listens to the block."""

    def before(*_: object) -> None:
        turns.before(index)
        for change in arrived.values():
            change()

    return [
        block.register_forward_pre_hook(before, prepend=True),
        block.register_forward_hook(lambda *_: turns.after(index)),
    ]


def _shared(blocks: Sequence[nn.Module]) -> set[int]:
    """Ids of parameters that several blocks have: those stay."""
    once, twice = set[int](), set[int]()
    for block in blocks:
        own = {id(parameter) for parameter in block.parameters()}
        twice |= once & own
        once |= own
    return twice


def pack(tensors: Iterable[tuple[str, torch.Tensor]], mover: Mover, leave: set[int]) -> Packed:
    """Moves named tensors into one buffer, but for those whose ids are in `leave`."""
    rows, size = [], 0
    for _name, tensor in tensors:
        plain = type(tensor) in _KINDS and not tensor.is_meta
        if not plain or id(tensor) in leave:
            continue
        # channels_last has another order of numbers, which is kept; what overlaps itself gets the usual one.
        dense = torch.ops.aten.is_non_overlapping_and_dense(tensor)
        strides = tensor.stride() if dense else torch.empty(tensor.shape, device="meta").stride()
        rows.append(_Row(tensor, size, tensor.dtype, tensor.shape, strides))
        size += -(-tensor.nbytes // _INSIDE) * _INSIDE
    packed = Packed(mover.host(size), tuple(rows))
    for row in rows:
        row.within(packed.buffer).copy_(row.tensor.data)
        row.tensor.data = row.within(packed.buffer)  # and what it was before is free
    return packed
