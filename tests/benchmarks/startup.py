"""From the start to a window that takes input (goal 12), and to an engine that takes jobs (goal 13)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.children import run_child
from tests.benchmarks.pairs import Pairs, Sample, in_turns
from tests.benchmarks.rows import Goal, Row, measured
from tests.benchmarks.terms import Terms

WINDOW_PAIRS = 10
ENGINE_PAIRS = 5


def rows(terms: Terms) -> Iterator[Row]:
    yield from _window_rows(terms)
    yield from _engine_rows(terms)


def times(probe: str, *args: str) -> Sample:
    """Seconds, 'wall' and 'cpu', as the probe measured them in a process of its own."""
    found = run_child(probe, *args)
    return {"wall": found["wall"], "cpu": found["cpu"]}


def _window_rows(terms: Terms) -> Iterator[Row]:
    ours, trivial = partial(times, "app_window"), partial(times, "trivial_window")
    for run in (ours, trivial):
        run()  # the files are in the page cache from here on
    pairs = in_turns(ours, trivial, terms.times(WINDOW_PAIRS), terms.order)
    yield from _both(
        "startup.window",
        pairs,
        "trivial QMainWindow",
        2.0,
        "process start to first paint and a key taken; warm cache",
    )
    wall = pairs.middles("wall")[0] * 1e3
    yield measured(
        "startup.window_limit",
        wall,
        "ms",
        pairs.own("wall", 1e3),
        n=len(pairs),
        goal=Goal(sign="<=", bound=1000.0, of="value"),
        note="the same, against the clock",
    )


def _engine_rows(terms: Terms) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder:
        listed = Path(folder) / "modules.json"
        ours = partial(times, "engine_ready", terms.device)
        if not terms.quick:
            ours()
        listed.write_text(json.dumps(run_child("engine_ready", terms.device)["modules"]), encoding="utf-8")
        pairs = in_turns(
            ours, partial(times, "bare_import", str(listed)), terms.times(ENGINE_PAIRS), terms.order
        )
    yield from _both("startup.engine", pairs, "bare import", 1.1, "worker start to ready; the same modules")


def _both(name: str, pairs: Pairs, baseline_name: str, bound: float, note: str) -> Iterator[Row]:
    """A row for the CPU time and one for the wall clock."""
    for key, unit in (("cpu", "CPU-ms"), ("wall", "ms")):
        value, baseline = pairs.middles(key)
        yield measured(
            f"{name}_{key}",
            value * 1e3,
            unit,
            pairs.ratio(key),
            baseline_name=baseline_name,
            baseline=baseline * 1e3,
            n=len(pairs),
            goal=Goal(sign="<=", bound=bound),
            note=note,
        )
