"""Low-rank changes of weights, `weight + scale * up @ down`, and what LoRAs make of a network with them.

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
    """`up` [out, rank]; `down` [rank, in], where a kernel's cells are in a row. A kernel's up half has one cell."""

    up: torch.Tensor
    down: torch.Tensor


class LowRank(NamedTuple):
    """All that is added to one weight. `scale` [] lies on the CPU: of a number each value would be compiled anew."""

    up: torch.Tensor
    down: torch.Tensor
    scale: torch.Tensor


class Use(NamedTuple):
    """A LoRA at a weight, with its layers that fit a network. Of one file `of` is the same object as long as it is."""

    of: object
    weight: float
    pairs: Mapping[str, Pair]


@dataclass(frozen=True)
class Adapter:
    """What LoRAs do to one network."""

    uses: tuple[Use, ...] = ()

    @cached_property
    def key(self) -> tuple[object, ...]:
        """Equal ones do the same."""
        return tuple((use.of, use.weight) for use in self.uses)

    @cached_property
    def layers(self) -> Mapping[str, list[Use]]:
        """By the name of the layer, those that change it."""
        found: dict[str, list[Use]] = {}
        for use in self.uses:
            for name in use.pairs:
                found.setdefault(name, []).append(use)
        return found


NONE = Adapter()


def stacked(name: str, uses: Sequence[Use]) -> LowRank:
    """The LoRAs of layer `name` as one: rows of `down` one below the other, weighed columns of `up` side by side."""
    if len(uses) == 1:
        (use,) = uses
        return LowRank(*use.pairs[name], torch.tensor(use.weight))
    ups = [use.pairs[name].up * use.weight for use in uses]
    return LowRank(torch.cat(ups, 1), torch.cat([use.pairs[name].down for use in uses]), torch.tensor(1.0))


def change(weight: torch.Tensor, low_rank: LowRank) -> None:
    """In place."""
    changed(weight, low_rank, weight)


def changed(whole: torch.Tensor, low_rank: LowRank, out: torch.Tensor) -> None:
    """`out`, of the shape and the strides of the weight `whole`, becomes that with the change."""
    rows, up, down = _rows(whole), low_rank.up, low_rank.down * low_rank.scale
    if rows is None:  # neither of the two orders that layers have
        plain = whole.contiguous()
        changed(plain, low_rank, plain)
        out.copy_(plain)
        return
    if whole.ndim == 4 and not whole.is_contiguous():
        down = down.view(len(down), *whole.shape[1:]).permute(0, 2, 3, 1).flatten(1)
    if (
        up.dtype is not whole.dtype or up.device != whole.device
    ):  # text encoders may have a device of their own
        up, down = up.to(whole), down.to(whole)
    if out is whole:
        rows.addmm_(up, down)
    else:
        torch.addmm(rows, up, down, out=_rows(out))


def _rows(weight: torch.Tensor) -> torch.Tensor | None:
    """A view of it with two sides; where a kernel's channels come last in memory, they do so in a row."""
    if weight.is_contiguous():
        return weight.flatten(1)
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).flatten(1)
    return None
