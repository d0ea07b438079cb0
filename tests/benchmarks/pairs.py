"""Two ways of doing one thing, measured in turns, so that what the machine does meanwhile hits both alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

Sample = Mapping[str, float]
Run = Callable[[], Sample]

# ours, baseline, baseline, ours: a machine that slows down steadily slows both sides of a pair by the same.
ABBA = "ABBA"
# Half the runs; the order turns round from pair to pair, and drift widens the interval instead of vanishing.
AB = "AB"


@dataclass(frozen=True, slots=True)
class Interval:
    """`middle` is the median of the sample, `lo`..`hi` its 95 % interval."""

    middle: float
    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """What `ours[i]` and `baseline[i]` measured side by side: the mean of that side's runs in the pair."""

    ours: tuple[Sample, ...]
    baseline: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.ours)

    def ratio(self, key: str) -> Interval:
        """ours / baseline; ZeroDivisionError where the baseline measured nothing."""
        return bootstrap([a[key] / b[key] for a, b in zip(self.ours, self.baseline, strict=True)])

    def difference(self, key: str) -> Interval:
        """ours - baseline, in the unit of the samples."""
        return bootstrap([a[key] - b[key] for a, b in zip(self.ours, self.baseline, strict=True)])

    def own(self, key: str, scale: float = 1.0) -> Interval:
        """Of our side alone, times `scale`."""
        return bootstrap([a[key] * scale for a in self.ours])

    def middles(self, key: str) -> tuple[float, float]:
        """The medians of both sides."""
        return median(a[key] for a in self.ours), median(b[key] for b in self.baseline)


def in_turns(ours: Run, baseline: Run, pairs: int, order: str = ABBA) -> Pairs:
    """Runs `order` once a pair, every second time backwards."""
    sides: dict[str, tuple[Run, list[Sample]]] = {"A": (ours, []), "B": (baseline, [])}
    for i in range(pairs):
        taken: dict[str, list[Sample]] = {"A": [], "B": []}
        for side in order if i % 2 == 0 else order[::-1]:
            taken[side].append(sides[side][0]())
        for side, samples in taken.items():
            sides[side][1].append(mean_of(samples))
    return Pairs(tuple(sides["A"][1]), tuple(sides["B"][1]))


def mean_of(samples: Sequence[Sample]) -> Sample:
    return {key: fmean(sample[key] for sample in samples) for key in samples[0]}


def bootstrap(values: Sequence[float], rounds: int = 4000) -> Interval:
    """The median with its 95 % percentile interval (Efron 1979); the same values give the same interval."""
    if not values:
        raise ValueError("no values to take a median of")
    rng = random.Random(0)
    medians = sorted(median(rng.choices(values, k=len(values))) for _ in range(rounds))
    return Interval(median(values), medians[int(rounds * 0.025)], medians[int(rounds * 0.975) - 1])


def worst_of(values: Sequence[float]) -> Interval:
    """For a limit that no single run may pass: the median between the least and the greatest."""
    return Interval(median(values), min(values), max(values))


def warm_up(run: Callable[[], float], tolerance: float = 0.03, most: int = 8) -> int:
    """Runs until two in a row differ by `tolerance` or less, at most `most` times; returns how often."""
    before = run()
    for n in range(2, most + 1):
        now = run()
        if abs(now - before) <= tolerance * before:
            return n
        before = now
    return most
