"""Aspect ratios at a model's own pixel area."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from pipelines.spec.families.base import SizeRule
from pipelines.spec.request import Size


@dataclass(frozen=True, slots=True)
class Aspect:
    """`width` to `height`, as in 4:3."""

    width: int
    height: int

    @property
    def name(self) -> str:
        return f"{self.width}:{self.height}"


ASPECTS = tuple(Aspect(*sides) for sides in ((1, 1), (4, 3), (3, 2), (16, 9), (3, 4), (2, 3), (9, 16)))


def size_of(aspect: Aspect, rule: SizeRule, native: int) -> Size:
    """Sides of this ratio with about `native` * `native` pixels, in the rule's steps and range."""
    side = native or rule.native
    width = side * sqrt(aspect.width / aspect.height)
    height = side * sqrt(aspect.height / aspect.width)
    return Size(width=fitted(width, rule), height=fitted(height, rule))


def fitted(side: float, rule: SizeRule) -> int:
    """The nearest multiple of the rule's step within its range."""
    least = -(-rule.minimum // rule.step) * rule.step
    most = rule.maximum // rule.step * rule.step
    return max(least, min(round(side / rule.step) * rule.step, most))
