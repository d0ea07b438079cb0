"""Whether memory grows from job to job and from model to model (goal 21), in a process of its own."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.children import run_child
from tests.benchmarks.models import TINY, write_sd
from tests.benchmarks.pairs import Interval
from tests.benchmarks.rows import Goal, Row, measured
from tests.benchmarks.terms import Terms

JOBS, SWITCHES, EVERY = 500, 50, 10
QUICK = 20, 4, 5
WARM = 0.2  # of the jobs, before memory is looked at: what is filled once is no leak
GOAL = Goal(sign="<=", bound=0.1, of="value")


def rows(terms: Terms) -> Iterator[Row]:
    jobs, switches, every = QUICK if terms.quick else (JOBS, SWITCHES, EVERY)
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder:
        one = write_sd(Path(folder) / "a" / "one", TINY)
        two = Path(folder) / "b" / "two"
        shutil.copytree(one, two)
        numbers = map(str, (jobs, switches, every))
        seen = run_child("leaks", str(one), str(two), *numbers, terms.device)["seen"]
    seen = [look for look in seen if look[0] > WARM * jobs]
    yield _row("leaks.ram", [(at, ram) for at, ram, _ in seen], jobs, switches)
    if terms.device == "cuda":
        yield _row("leaks.vram", [(at, card) for at, _, card in seen], jobs, switches)


def _row(name: str, seen: Sequence[tuple[int, int]], jobs: int, switches: int) -> Row:
    """In percent of what is taken at first."""
    own = slope(seen)
    return measured(
        name,
        own.middle,
        "% a job",
        own,
        n=len(seen),
        goal=GOAL,
        note=f"{jobs} jobs, {switches} changes of the model; from {seen[0][1] / 1e6:.0f} to "
        f"{seen[-1][1] / 1e6:.0f} MB",
    )


def slope(seen: Sequence[tuple[int, int]], rounds: int = 1000) -> Interval:
    """Percent of the first of `seen` (job, bytes) that each job adds, by least squares, resampled by points."""
    rng, first = random.Random(0), max(1, seen[0][1])

    def fitted(points: Sequence[tuple[int, int]]) -> float:
        jobs, taken = np.array(points, dtype=float).T
        return float(np.polyfit(jobs, taken / first * 100, 1)[0])

    found = []
    while len(found) < rounds:
        drawn = rng.choices(seen, k=len(seen))
        if len({job for job, _ in drawn}) > 1:
            found.append(fitted(drawn))
    found.sort()
    return Interval(fitted(seen), found[int(rounds * 0.025)], found[int(rounds * 0.975) - 1])
