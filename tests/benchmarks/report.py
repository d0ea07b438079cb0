"""What the harness prints and writes: one table, one JSON file, and what moved since another one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.fingerprint import commit
from tests.benchmarks.rows import Row

SCHEMA = 1
HEADER = ("area", "what", "ours", "against", "ratio [95 %]", "goal", "verdict", "n", "note")
NOTE_COLUMN = len(HEADER) - 1


def table(rows: Sequence[Row]) -> str:
    lines = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(NOTE_COLUMN)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[NOTE_COLUMN]]
        )
        for line in lines
    )


def document(rows: Sequence[Row], fingerprint: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "fingerprint": fingerprint,
        "rows": [row.to_dict() for row in rows],
    }


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """Raises ValueError for a file of another schema."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no result of this harness (schema {SCHEMA})")
    return [Row.from_dict(row) for row in content["rows"]]


def moved(now: Sequence[Row], before: Sequence[Row]) -> list[tuple[Row, Row]]:
    """(now, before) of the rows whose two intervals do not touch."""
    old = {row.name: row for row in before if row.lo is not None}
    pairs = [(row, old[row.name]) for row in now if row.lo is not None and row.name in old]
    return [(a, b) for a, b in pairs if a.goal == b.goal and (_below(a, b) or _below(b, a))]


def moved_text(now: Sequence[Row], before: Sequence[Row]) -> str:
    changes = moved(now, before)
    if not changes:
        return "Nothing moved beyond both intervals."
    return "\n".join(f"{a.name}: {_interval(b)} -> {_interval(a)}  ({a.goal or 'ratio'})" for a, b in changes)


def _below(a: Row, b: Row) -> bool:
    return a.hi is not None and b.lo is not None and a.hi < b.lo


def _cells(row: Row) -> tuple[str, ...]:
    area, _, what = row.name.partition(".")
    against = f"{_quantity(row.baseline, row.unit)} {row.baseline_name}".strip()
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
    return (
        area, what, _quantity(row.value, row.unit), against, f"{ratio} {_interval(row)}".strip(),
        row.goal, _verdict(row), str(row.n or ""), row.note,
    )  # fmt: skip


def _quantity(number: float | None, unit: str) -> str:
    return "" if number is None else f"{number:.4g} {unit}".strip()


def _interval(row: Row) -> str:
    """With a sign of what it is of, where that is not the ratio."""
    if row.lo is None or row.hi is None:
        return ""
    of = row.goal.partition(" ")[0]
    ends = f"[{row.lo:.3g} - {row.hi:.3g}]"
    return ends if of in ("", "ratio") else f"{of} {ends}"


def _verdict(row: Row) -> str:
    if row.status != "ok":
        return row.status
    return {True: "met", False: "MISSED", None: "-"}[row.met]
