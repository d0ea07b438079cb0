"""A checkpoint in one file: against bare diffusers, when it is in RAM still, and cold from the disk (goals 6, 7)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.children import run_child
from tests.benchmarks.models import record_of
from tests.benchmarks.pairs import Pairs, bootstrap, worst_of
from tests.benchmarks.recognise import COLLECTION
from tests.benchmarks.rows import Goal, Row, measured, skipped
from tests.benchmarks.singlefile import CASES, MAX_MEMORY_RATIO, MAX_TIME_RATIO, compared, written
from tests.benchmarks.terms import Terms

FILE, MEMORY, PLAIN = "loading.single_file", "loading.memory", "loading.plain_read"
AGAIN, COLD = "loading.again", "loading.cold"
NAMES = (FILE, f"{FILE}_cpu", MEMORY, PLAIN, AGAIN, COLD)
PAIRS = 5
READ_RATIO = 1.15
MODEL, DTYPE = "sd15", "float16"  # 2.13 GB; the precision of the file, so that nobody converts


def rows(terms: Terms) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder:
        place = Path(folder)
        if terms.quick or not COLLECTION.is_dir():
            why = "a file of 2 GB: not quick" if terms.quick else f"the manifests are not at {COLLECTION}"
            yield from (skipped(name, why) for name in NAMES[:4])
            file = converted(terms.model, place / "model.safetensors")
        else:
            file = written(CASES[MODEL], place / MODEL)
            yield from _against_diffusers(file, place, PAIRS)
        found = [again(file, terms.model, place, DTYPE) for _ in range(terms.times(PAIRS))]
        yield from again_rows(found, file.stat().st_size)


def converted(model: Path, file: Path) -> Path:
    """The folder as one file."""
    from pipelines.workshop.convert import convert

    convert(record_of(model), file)
    return file


def _against_diffusers(file: Path, folder: Path, count: int) -> Iterator[Row]:
    pairs = compared(MODEL, file, folder, DTYPE, count)
    size = f"{file.stat().st_size / 1e9:.2f} GB, {DTYPE}"
    note = f"{size}, until every weight was looked at"
    for name, key, unit in ((FILE, "ready_s", "s"), (f"{FILE}_cpu", "ready_cpu_s", "CPU-s")):
        yield _load_row(name, pairs, (key, unit), "from_single_file", MAX_TIME_RATIO, note)
    own = worst_of([sample["memory"] for sample in pairs.ours])
    yield measured(
        MEMORY,
        own.middle,
        "x the bytes",
        own,
        n=len(pairs),
        goal=Goal(sign="<=", bound=MAX_MEMORY_RATIO, of="value"),
        note=f"peak RSS; from_single_file {pairs.middles('memory')[1]:.3f}",
    )
    pairs = compared(MODEL, file, folder, DTYPE, count, "plain")
    note = (
        f"{size}; from_single_file maps the file, whose loss would then end the program, and copies nothing"
    )
    yield _load_row(PLAIN, pairs, ("ready_s", "s"), "a read into memory", READ_RATIO, note)


def _load_row(name: str, pairs: Pairs, of: tuple[str, str], against: str, bound: float, note: str) -> Row:
    key, unit = of
    ours, theirs = pairs.middles(key)
    return measured(
        name,
        ours,
        unit,
        pairs.ratio(key),
        baseline_name=against,
        baseline=theirs,
        n=len(pairs),
        goal=Goal(sign="<=", bound=bound),
        note=note,
    )


def again(file: Path, other: Path, out: Path, dtype: str) -> dict[str, Any]:
    """Seconds: `first_s`, `again_s` after `other` was loaded, `cold_s`, and `read_s` of the file alone, cold too."""
    return run_child("load_again", str(file), str(other), str(out), dtype)


def again_rows(found: Sequence[dict[str, Any]], size_bytes: int) -> Iterator[Row]:
    yield _ratio_row(AGAIN, found, ("again_s", "first_s"), "first load", 0.1, "another model in between")
    speed = size_bytes / median(each["read_s"] for each in found) / 1e9
    note = f"evicted before each; the disk gives {speed:.2f} GB/s"
    yield _ratio_row(COLD, found, ("cold_s", "read_s"), "sequential read", READ_RATIO, note)


def _ratio_row(
    name: str, found: Sequence[dict[str, Any]], keys: tuple[str, str], against: str, bound: float, note: str
) -> Row:
    if keys[1] == "read_s" and not hasattr(os, "posix_fadvise"):
        return skipped(name, "this system cannot be told to forget a file")
    ours, theirs = keys
    return measured(
        name,
        median(each[ours] for each in found) * 1e3,
        "ms",
        bootstrap([each[ours] / each[theirs] for each in found]),
        baseline_name=against,
        baseline=median(each[theirs] for each in found) * 1e3,
        n=len(found),
        goal=Goal(sign="<=", bound=bound),
        note=note,
    )
