"""Low-rank changes of weights, `weight + up @ down`, and what LoRAs make of a network with them.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". However a network lies in memory, a layer gets all
of its changes in one operation, on the weight as it was loaded and in the precision that it computes in. So a picture
is the same bit for bit wherever the network lies, nothing drifts, and the number of LoRAs costs nothing in a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch


class Pair(NamedTuple):
    """What is added to one weight, `up @ down`.

    `up` [out, rank]; `down` [rank, in], where a kernel's cells are in a row. A kernel's up half has one cell.
    """

    up: torch.Tensor
    down: torch.Tensor


@dataclass(frozen=True, eq=False)
class Use:
    """A LoRA at a weight, with its layers that fit a network. Of one file `of` is the same object as long as it is."""

    of: object
    weight: float
    pairs: Mapping[str, Pair]

    @cached_property
    def weighed(self) -> Mapping[str, Pair]:
        """The weight is in the numbers of `down`, not beside them.

        So a layer that is changed in each step is spared a product, and a compiled one does not see another number,
        for which it would be compiled anew.
        """
        if self.weight == 1:
            return self.pairs
        # one call for hundreds of layers; a number that is no tensor takes three times as long on the CPU
        downs = torch._foreach_mul([pair.down for pair in self.pairs.values()], torch.tensor(self.weight))
        both = zip(self.pairs.items(), downs, strict=True)
        return {name: Pair(pair.up, down) for (name, pair), down in both}


@dataclass(frozen=True)
class Adapter:
    """What LoRAs do to one network."""

    uses: tuple[Use, ...] = ()

    @cached_property
    def key(self) -> tuple[object, ...]:
        """Equal ones do the same."""
        return tuple((use.of, use.weight) for use in self.uses)

    @cached_property
    def layers(self) -> Mapping[tuple[Use, ...], Sequence[str]]:
        """By LoRAs, the names of the layers that these and no others change."""
        if len(self.uses) == 1:  # hundreds of layers at each move of a slider
            return {self.uses: [*self.uses[0].pairs]}
        users: dict[str, tuple[Use, ...]] = {}
        for use in self.uses:
            for name in use.pairs:
                users[name] = (*users.get(name, ()), use)
        found: dict[tuple[Use, ...], list[str]] = {}
        for name, uses in users.items():
            found.setdefault(uses, []).append(name)
        return found


NONE = Adapter()


def stacked(name: str, uses: Sequence[Use]) -> Pair:
    """The LoRAs of layer `name` as one: rows of `down` one below the other, columns of `up` side by side."""
    if len(uses) == 1:
        return uses[0].weighed[name]
    ups, downs = zip(*(use.weighed[name] for use in uses), strict=True)
    return Pair(torch.cat(ups, 1), torch.cat(downs))


def change(weight: torch.Tensor, pair: Pair) -> None:
    """In place."""
    changed(weight, pair, weight)


def changed(whole: torch.Tensor, pair: Pair, out: torch.Tensor) -> None:
    """`out`, of the shape and the strides of the weight `whole`, becomes that with the change."""
    up, down = pair
    if (
        up.dtype is not whole.dtype or up.device != whole.device
    ):  # text encoders may have a device of their own
        up, down = up.to(whole), down.to(whole)
    rows = _rows(whole)
    if rows is None:  # neither of the two orders that layers have
        plain = whole.contiguous()
        changed(plain, pair, plain)
        out.copy_(plain)
        return
    if whole.ndim == 4 and not whole.is_contiguous():
        down = down.view(len(down), *whole.shape[1:]).permute(0, 2, 3, 1).flatten(1)
    if out is whole:
        rows.addmm_(up, down)
    else:
        torch.addmm(rows, up, down, out=_rows(out))


def flat(weight: torch.Tensor) -> torch.Tensor:
    """A view of it that is changed with less ado, where its order has one."""
    return weight.flatten(1) if weight.is_contiguous() else weight


def _rows(weight: torch.Tensor) -> torch.Tensor | None:
    """A view of it with two sides; where a kernel's channels come last in memory, they do so in a row."""
    if weight.is_contiguous():
        return weight if weight.ndim == 2 else weight.flatten(1)
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).flatten(1)
    return None
