"""What else would fit, when a picture does not: the best cheaper ways, each tried by planning it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipelines.runtime.placement import Placement, plan
from pipelines.spec.outlook import Change
from pipelines.spec.request import Size
from pipelines.spec.sizes import Shape, Sizes
from pipelines.spec.weights import BLOCK, Weights, weights_of

_FEWER = ("int8", "int4", "nf4")  # fp8 takes as much as int8 and is less exact
_SIDES = (0.75, 0.5, 0.375, 0.25)


@dataclass(frozen=True, slots=True)
class Offer:
    """`words` name the `change` of the request; `placement` is how it would fit."""

    words: str
    placement: Placement
    change: Change


def offers(placement: Placement, bits: int, step: int, most: int = 2) -> tuple[Offer, ...]:
    """The first that fit of fewer bits, a smaller picture and both, for a placement that does not.

    None that changes all that another changes, and more, and of 4 bits only the kind that loses less.

    `bits` are those of a stored number now, `step` what the sides of a picture are multiples of.
    """
    found = list[Offer]()
    _, budget, _, activations = placement.asked
    for change, sizes, shape in _changes(placement, bits, step):
        if len(found) == most:
            break
        if any(_is_less(offer.change, change) for offer in found):
            continue
        changed = plan(sizes, budget, shape, activations)
        if changed.fits:
            found.append(Offer(change.words, changed, change))
    return tuple(found)


def _is_less(one: Change, other: Change) -> bool:
    """Whether `other` changes all that `one` does and more, or is it but in other weights of as many bits."""
    if _kinds(one) < _kinds(other):
        return True
    ours, theirs = weights_of(one.weights or ""), weights_of(other.weights or "")
    as_many = ours is not None and theirs is not None and ours.bits == theirs.bits
    return as_many and replace(one, weights=None) == replace(other, weights=None)


def _kinds(change: Change) -> frozenset[str]:
    """What a change is about: the size, the weights, what is added."""
    told = {"size": change.size is not None, "weights": change.weights is not None, "bare": change.bare}
    return frozenset(name for name, is_changed in told.items() if is_changed)


def _changes(placement: Placement, bits: int, step: int) -> Iterator[tuple[Change, Sizes, Shape]]:
    """Of what the picture loses least by, first."""
    sizes, _, shape, _ = placement.asked
    rows = [row for row in map(weights_of, _FEWER) if row and row.bits < bits]
    packed = [(row.id, _packed(sizes, bits, row)) for row in rows]
    small = [_smaller(placement, factor, step) for factor in _SIDES]
    yield small[0]
    for name, fewer in packed:
        yield Change(weights=name), fewer, shape
    for change, _, pixels in small[1:]:
        yield change, sizes, pixels
        for name, fewer in packed:
            yield replace(change, weights=name), fewer, pixels
    if sizes.added:
        alone = replace(shape, controls=0)
        yield Change(bare=True), _bare(sizes), alone
        for name, fewer in packed:
            yield Change(bare=True, weights=name), _bare(fewer), alone


def _bare(sizes: Sizes) -> Sizes:
    """Without what is added to the model."""
    return replace(sizes, added=0, kept=0, seeing=0)


def _smaller(placement: Placement, factor: float, step: int) -> tuple[Change, Sizes, Shape]:
    sizes, _, shape, _ = placement.asked
    small = shape.scaled(factor, step)
    return Change(size=Size(width=small.width, height=small.height)), sizes, small


def _packed(sizes: Sizes, bits: int, row: Weights) -> Sizes:
    """Of the denoisers alone; what lies in no block stays as it is."""
    factor = row.block * 8 / BLOCK / bits
    return replace(sizes, denoisers=tuple(network.scaled(factor) for network in sizes.denoisers))
