"""`Row`: one finding of a benchmark, with the goal it is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tests.benchmarks.pairs import Interval

# With fewer pairs even the widest interval (least to greatest) misses the median more than once in ten times.
FEWEST_PAIRS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`of` says which number is held against `bound`: 'ratio', 'value' or 'difference' (value - baseline)."""

    sign: str
    bound: float
    of: str = "ratio"

    def met_by(self, interval: Interval) -> bool:
        """True when even the bad end of the interval meets the bound."""
        return interval.hi <= self.bound if self.sign == "<=" else interval.lo >= self.bound

    def __str__(self) -> str:
        return f"{self.of} {self.sign} {self.bound:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`name` is 'area.what'; `value`, `baseline` in `unit`; `lo`..`hi` 95 % interval of the goal's number.

    `met` is None without a goal, a measurement or enough pairs; `status` 'ok', 'skipped' or 'crashed'.
    """

    name: str
    value: float | None = None
    unit: str = ""
    baseline_name: str = ""
    baseline: float | None = None
    ratio: float | None = None
    lo: float | None = None
    hi: float | None = None
    goal: str = ""
    met: bool | None = None
    n: int = 0
    note: str = ""
    status: str = "ok"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        return cls(**data)


def measured(
    name: str,
    value: float,
    unit: str,
    interval: Interval,
    *,
    n: int,
    goal: Goal | None = None,
    baseline_name: str = "",
    baseline: float | None = None,
    note: str = "",
) -> Row:
    """A row whose `interval` is that of the goal's number (of the ratio where there is no goal)."""
    judged = goal is not None and n >= FEWEST_PAIRS
    if goal is not None and not judged:
        note = f"{note}; n={n} is too few to judge".removeprefix("; ")
    return Row(
        name=name,
        value=value,
        unit=unit,
        baseline_name=baseline_name,
        baseline=baseline,
        ratio=_ratio(value, baseline, interval, goal),
        lo=interval.lo if n >= FEWEST_PAIRS else None,
        hi=interval.hi if n >= FEWEST_PAIRS else None,
        goal=str(goal or ""),
        met=goal.met_by(interval) if goal is not None and judged else None,
        n=n,
        note=note,
    )


def skipped(name: str, reason: str) -> Row:
    return Row(name=name, note=reason, status="skipped")


def crashed(name: str, reason: str) -> Row:
    return Row(name=name, note=reason, status="crashed")


def _ratio(value: float, baseline: float | None, interval: Interval, goal: Goal | None) -> float | None:
    """The median of the pairs' ratios where that is what the interval holds, else the plain quotient."""
    if baseline is None:
        return None
    if goal is None or goal.of == "ratio":
        return interval.middle
    return value / baseline if baseline else None
