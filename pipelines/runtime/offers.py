"""What else would fit, when a picture does not: the best cheaper ways, each tried by planning it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipelines.runtime.placement import Placement, plan
from pipelines.spec.outlook import Change
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import Size
from pipelines.spec.sizes import Shape, Sizes

_BITS = {8: "an 8-bit version of the model (fp8, int8 or GGUF Q8_0)", 4: "a 4-bit version (GGUF Q4, NF4)"}
_OVER = {8: 1.06, 4: 1.15}  # scales beside the numbers: GGUF's Q8_0 and Q4_K
_SIDES = (0.75, 0.5)
_SMALLER = (0.375, 0.25)  # better than nothing


@dataclass(frozen=True, slots=True)
class Offer:
    """`words` name what would be changed; `placement` is how it would fit.

    `change` is that of the request, None where it takes another file of the model.
    """

    words: str
    placement: Placement
    change: Change | None = None


def offers(placement: Placement, bits: int, step: int, most: int = 2) -> tuple[Offer, ...]:
    """The first that fit of fewer bits, a smaller picture and both, for a placement that does not.

    `bits` are those of a stored number now, `step` what the sides of a picture are multiples of.
    """
    found = list[Offer]()
    _, _, now, _ = placement.asked
    for words, sizes, shape in _changes(placement, bits, step):
        if len(found) == most:
            break
        _, budget, _, activations = placement.asked
        changed = plan(sizes, budget, shape, activations)
        if changed.fits:
            found.append(Offer(words, changed, _change(placement, sizes, shape, now)))
    return tuple(found)


def _change(placement: Placement, sizes: Sizes, shape: Shape, now: Shape) -> Change | None:
    before, *_ = placement.asked
    if sizes.denoisers != before.denoisers:
        return None
    size = Size(width=shape.width, height=shape.height) if shape != now else None
    return Change(size=size, bare=bool(before.added and not sizes.added))


def stored_bits(record: ModelRecord) -> int:
    """Of a stored number, for what fewer bits would save."""
    if record.dtype.startswith("float8") or record.dtype in ("int8", "Q8_0", "I8"):
        return 8
    return 4 if record.dtype.startswith(("Q", "IQ")) else 16


def _changes(placement: Placement, bits: int, step: int) -> Iterator[tuple[str, Sizes, Shape]]:
    sizes, _, shape, _ = placement.asked
    small = [shape.scaled(factor, step) for factor in _SIDES]
    stored = [(text, _in_bits(sizes, bits, new)) for new, text in _BITS.items() if new < bits]
    yield _sized(small[0]), sizes, small[0]
    for text, fewer in stored:
        yield text, fewer, shape
    yield _sized(small[1]), sizes, small[1]
    for text, fewer in stored:
        yield f"{text}, and {_sized(small[1])}", fewer, small[1]
    for factor in _SMALLER:
        small_one = shape.scaled(factor, step)
        yield _sized(small_one), sizes, small_one
    if sizes.added:
        yield "no ControlNet and no LoRA", replace(sizes, added=0), shape
        for text, fewer in stored:
            yield f"{text}, and no ControlNet and no LoRA", replace(fewer, added=0), shape


def _sized(shape: Shape) -> str:
    return f"{shape.width} × {shape.height} pixels"


def _in_bits(sizes: Sizes, bits: int, new: int) -> Sizes:
    factor = new / bits * _OVER[new]
    return replace(sizes, denoisers=tuple(network.scaled(factor) for network in sizes.denoisers))
