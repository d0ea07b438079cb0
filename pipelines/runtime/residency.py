"""Which blocks of a network stay on the device and which stream, when not all fit. Pure.

Streamed blocks are spread evenly over the network, so that each copy hides behind the compute of those that stay. Of
all ways to make it fit, the one that takes the least time by the schedule's own clock is chosen: where the bus is the
limit that is the one that copies least, else one that hides every copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from pipelines.runtime.schedule import aligned, schedule

SLOTS = (2, 2.5, 3, 4)  # arenas of so many times the largest streamed block
_FRACTIONS = 64
_LIMITS = 6  # sizes above which blocks are tried to stay: large ones in the arena cost room for all
_PLAIN = (0.0,)  # shares of the largest block that are owed at the first one
_STARTS = (0.0, -0.25, 0.25, -0.49, 0.49)  # tried where uneven blocks keep the bus or the compute waiting
_STEPS = 3
_HUNDREDTHS = 2  # digits of a cost that count: a plan that copies less is worth a hundredth of a step


@dataclass(frozen=True, slots=True)
class Streaming:
    """`streamed` are places among the blocks; `takes` the bytes of those that stay and of the arena.

    The arena has room for `slots` of the largest streamed block.
    """

    streamed: tuple[int, ...]
    streamed_bytes: int
    slots: float
    arena: int
    takes: int


def streaming(sizes: tuple[int, ...], room: int, copy_ratio: float) -> Streaming | None:
    """The quickest way to have blocks of these `sizes` in `room` bytes; None when there is none.

    `copy_ratio` is the time in which all blocks are copied over that in which they compute.
    """
    plain = _quickest(_ways(sizes), sizes, room, copy_ratio)
    if plain is None or _cost(sizes, plain, copy_ratio) <= _bound(sizes, plain, copy_ratio, first=True):
        return plain
    return _quickest(_ways(sizes, _STARTS), sizes, room, copy_ratio)


def _quickest(
    ways: tuple[Streaming, ...], sizes: tuple[int, ...], room: int, copy_ratio: float
) -> Streaming | None:
    best, best_cost = None, float("inf")
    for way in ways:
        if way.takes > room:
            continue
        if _bound(sizes, way, copy_ratio) >= best_cost:
            break  # they come by the bytes they copy: no later one can be quicker
        cost = _cost(sizes, way, copy_ratio)
        if cost < best_cost:
            best, best_cost = way, cost
    return best


def _bound(sizes: tuple[int, ...], way: Streaming, copy_ratio: float, first: bool = False) -> float:
    """Below which no cost of a way can be that copies as much; `first`: and whose first block is as large."""
    total = sum(sizes)
    wait = sizes[way.streamed[0]] / total * copy_ratio / _STEPS if first else 0.0
    return round(max(1.0, way.streamed_bytes / total * copy_ratio) + wait, _HUNDREDTHS)


def least(sizes: tuple[int, ...]) -> int:
    """Bytes that streaming takes at the least."""
    return min((way.takes for way in _ways(sizes)), default=sum(sizes))


@lru_cache(64)
def _ways(sizes: tuple[int, ...], starts: tuple[float, ...] = _PLAIN) -> tuple[Streaming, ...]:
    """All that are tried, by the bytes that they copy in a step."""
    total, found = sum(sizes), dict[tuple[tuple[int, ...], int], Streaming]()
    distinct = sorted(set(sizes))
    limits = {distinct[(len(distinct) - 1) * i // (_LIMITS - 1)] for i in range(_LIMITS)} if distinct else ()
    for limit in sorted(limits):
        many = min(_FRACTIONS, sum(size <= limit for size in sizes))
        for n, start in product(range(1, many + 1), starts):
            chosen = _spread(sizes, limit, n / many, start * limit)
            moved = sum(sizes[i] for i in chosen)
            for slots in SLOTS:
                arena = int(slots * aligned(max((sizes[i] for i in chosen), default=0)))
                if moved > arena:  # else they might as well stay
                    found[chosen, arena] = Streaming(chosen, moved, slots, arena, total - moved + arena)
    return tuple(sorted(found.values(), key=lambda way: (way.streamed_bytes, way.takes, way.streamed)))


def _spread(sizes: tuple[int, ...], limit: int, fraction: float, owed: float) -> tuple[int, ...]:
    """So much of the bytes of the blocks up to `limit`, evenly: what is owed is carried on, as in Bresenham's line.

    What is `owed` at the start moves the line: uneven blocks fall otherwise between those that stay.
    """
    chosen = []
    for i, size in enumerate(sizes):
        if size > limit:
            continue
        owed += size * fraction
        if owed > size / 2:
            chosen.append(i)
            owed -= size
    return tuple(chosen)


@lru_cache(4096)
def _cost(sizes: tuple[int, ...], way: Streaming, copy_ratio: float) -> float:
    """Of a step, in units of its compute, which is taken to be as the bytes of the blocks are."""
    total = sum(sizes)
    compute = [size / total for size in sizes]
    order = schedule(sizes, way.streamed, way.arena)
    return round(order.seconds(compute, total / copy_ratio, _STEPS) / _STEPS, _HUNDREDTHS)
