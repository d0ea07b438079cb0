"""The model library: the first scan of 10,000 files, and a later start that finds them in the index."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.children import run_child
from tests.benchmarks.library_files import write_library
from tests.benchmarks.pairs import bootstrap
from tests.benchmarks.rows import Goal, Row, measured
from tests.benchmarks.terms import Terms

FILES, QUICK_FILES = 10_000, 200
FIRST_SCANS, LATER_STARTS = 5, 10


def rows(terms: Terms) -> Iterator[Row]:
    """The files are just written, so that the first scan reads them out of the page cache."""
    count = QUICK_FILES if terms.quick else FILES
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder:
        place = Path(folder)
        write_library(place / "models", count)
        scan = partial(_scanned, place, count)
        first = [scan(f"{n}.sqlite") for n in range(terms.times(FIRST_SCANS))]
        later = [scan("0.sqlite") for _ in range(terms.times(LATER_STARTS))]
    yield _row("library.first_scan", first, "wall", "s", 15.0, f"{count} LoRAs, each read")
    yield _row("library.later_start", later, "wall", "s", 0.3, f"{count} LoRAs, out of the index")
    yield _row("library.memory", first, "mb", "MB", 500.0, "peak of the process of a first scan")


def _scanned(place: Path, count: int, database: str) -> dict[str, Any]:
    """Raises RuntimeError when not all files are found, so that no wrong answer counts as a fast one."""
    found = run_child("library_scan", str(place / "models"), str(place / database))
    if found["models"] != count:
        raise RuntimeError(f"{found['models']} models of {count} were found")
    return found


def _row(name: str, found: list[dict[str, Any]], word: str, unit: str, bound: float, note: str) -> Row:
    values = [each[word] for each in found]
    own = bootstrap(values)
    goal = Goal(sign="<=", bound=bound, of="value")
    return measured(name, own.middle, unit, own, n=len(values), goal=goal, note=note)
