"""One line of the table over all demos, and the table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    SHARE = "share"  # of `of` cases
    IOU = "IoU"  # intersection over union, 0..1
    DECIBEL = "dB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`figure` is None when there is nothing to measure: `why` says so, and the target is missed.

    `of` is how many cases it was measured on. `at_most`: the target is a limit from above.
    """

    demo: str
    topic: str
    target: float
    unit: Unit = Unit.SHARE
    figure: float | None = None
    of: int = 0
    at_most: bool = False
    above: bool = False  # the target itself is not enough
    why: str = ""

    @property
    def met(self) -> bool:
        if self.figure is None:
            return False
        if self.at_most:
            return self.figure <= self.target
        return self.figure > self.target if self.above else self.figure >= self.target


def share(demo: str, topic: str, right: Iterable[bool], target: float) -> Row:
    answers = list(right)
    return Row(demo=demo, topic=topic, target=target, figure=sum(answers) / len(answers), of=len(answers))


def not_trained(demo: str, topic: str, target: float, unit: Unit = Unit.SHARE, **more: bool) -> Row:
    return Row(demo=demo, topic=topic, target=target, unit=unit, why="not trained", **more)


def table(rows: Iterable[Row]) -> str:
    lines = [f"{'demo':<20}{'topic':<32}{'figure':>12}{'of':>6}{'target':>11}  verdict"]
    for row in rows:
        figure = row.why or "-" if row.figure is None else _number(row.figure, row.unit)
        sign = "<= " if row.at_most else "> " if row.above else ">= "
        wanted = sign + _number(row.target, row.unit)
        verdict = "met" if row.met else "MISSED"
        lines.append(f"{row.demo:<20}{row.topic:<32}{figure:>12}{row.of or '-':>6}{wanted:>11}  {verdict}")
    return "\n".join(lines)


def _number(value: float, unit: Unit) -> str:
    return (
        f"{value:.1%}"
        if unit is Unit.SHARE
        else f"{value:.2f}"
        if unit is Unit.IOU
        else f"{value:.2f} {unit}"
    )
