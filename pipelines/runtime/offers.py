"""What else would fit, when a picture does not: the best cheaper ways, each tried by planning it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipelines.runtime.placement import Placement, plan
from pipelines.spec.sizes import Shape, Sizes

_BITS = {8: "an 8-bit version of the model (fp8, int8 or GGUF Q8_0)", 4: "a 4-bit version (GGUF Q4, NF4)"}
_OVER = {8: 1.06, 4: 1.25}  # scales beside the numbers: GGUF's Q8_0 and Q4_1
_SIDES = (0.75, 0.5)


@dataclass(frozen=True, slots=True)
class Offer:
    """`words` name what would be changed; `placement` is how it would fit."""

    words: str
    placement: Placement


def offers(placement: Placement, bits: int, step: int, most: int = 2) -> tuple[Offer, ...]:
    """The first that fit of fewer bits, a smaller picture and both, for a placement that does not.

    `bits` are those of a stored number now, `step` what the sides of a picture are multiples of.
    """
    found = list[Offer]()
    for words, sizes, shape in _changes(placement, bits, step):
        if len(found) == most:
            break
        _, budget, _, activations = placement.asked
        changed = plan(sizes, budget, shape, activations)
        if changed.fits:
            found.append(Offer(words, changed))
    return tuple(found)


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
    if sizes.added:
        yield "no ControlNet and no LoRA", replace(sizes, added=0), shape
        for text, fewer in stored:
            yield f"{text}, and no ControlNet and no LoRA", replace(fewer, added=0), shape


def _sized(shape: Shape) -> str:
    return f"{shape.width} × {shape.height} pixels"


def _in_bits(sizes: Sizes, bits: int, new: int) -> Sizes:
    factor = new / bits * _OVER[new]
    return replace(sizes, denoisers=tuple(network.scaled(factor) for network in sizes.denoisers))
