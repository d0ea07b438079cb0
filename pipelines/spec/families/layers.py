"""Conditions on the tensors of a file: what tells a family by names and shapes. Data; who evaluates them is elsewhere.

In a name '#' stands for any number and '*' for any text. Names are those of the part itself: without the prefix that
it has in a bigger file. For a LoRA they are those of the layers that it changes, with '_' in place of every dot.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

# The shape of the first tensor of that name, None when there is none. A side of 0 is one that does not show.
ShapeOf = Callable[[str], tuple[int, ...] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One of `names` is there (or none of them), and the side `axis` of one of those is `among` these or in range.

    A side that does not show (0) fits, unless it must (`shown`).
    """

    names: tuple[str, ...]
    present: bool = True
    axis: int = -1
    among: frozenset[int] = frozenset()
    least: int = 0
    most: int = sys.maxsize
    shown: bool = False

    def misses(self, shape_of: ShapeOf) -> str:
        """Why the tensors do not fulfil this, as part of a sentence; empty when they do."""
        shapes = [shape for name in self.names if (shape := shape_of(name)) is not None]
        if bool(shapes) != self.present:
            return f"'{self.names[0]}' is {'missing' if self.present else 'there'}"
        if not shapes or self.axis < 0:
            return ""
        sides = [shape[self.axis] for shape in shapes if len(shape) > self.axis]
        return "" if any(map(self._fits, sides)) else f"'{self.names[0]}' is {sides} wide"

    def _fits(self, side: int) -> bool:
        if not side:
            return not self.shown
        return side in self.among if self.among else self.least <= side <= self.most


Conditions = tuple[Layer, ...]


def has(*names: str) -> Layer:
    return Layer(names=names)


def lacks(*names: str) -> Layer:
    return Layer(names=names, present=False)


def wide(names: tuple[str, ...] | str, axis: int, *sizes: int) -> Layer:
    """One of `names` is there, and its side `axis` is one of `sizes`."""
    return Layer(names=(names,) if isinstance(names, str) else names, axis=axis, among=frozenset(sizes))


def shown(names: tuple[str, ...] | str, axis: int, *sizes: int) -> Layer:
    """As `wide`, for where nothing but the width tells."""
    return Layer(
        names=(names,) if isinstance(names, str) else names, axis=axis, among=frozenset(sizes), shown=True
    )


def missing(conditions: Conditions, shape_of: ShapeOf) -> str:
    """The first reason why the tensors do not fulfil all; empty when they do."""
    return next((reason for each in conditions if (reason := each.misses(shape_of))), "")
