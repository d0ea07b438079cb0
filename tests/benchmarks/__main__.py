"""The benchmark harness: `python -m tests.benchmarks`. Goals are reported, never asserted.

Exit code 0 unless a benchmark crashed (1) or the arguments are wrong (2).
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import fingerprint, report
from tests.benchmarks.rows import Row, crashed, skipped
from tests.benchmarks.terms import Terms

# The order of the work: what starts processes comes first, while this one is still small.
AREAS = (
    "startup", "stalls", "library", "plan", "loading", "engine", "attention", "text", "lora", "streaming", "preview",
    "cancel", "leaks", "switches",
)  # fmt: skip
DEMO = fingerprint.ROOT / "assets" / "demo" / "sd"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    before = report.read_rows(arguments.against) if arguments.against else []
    terms = Terms(device=arguments.device, quick=arguments.quick, model=arguments.model)
    start = fingerprint.fingerprint({})
    rows = list(all_rows(arguments.only, terms))
    print(report.table(rows))
    if arguments.against:
        print("\n" + report.moved_text(rows, before))
    if arguments.json:
        load = {"load1": start["load1"], "load1_end": round(fingerprint.load1(), 2)}
        report.write(arguments.json, report.document(rows, start | limits(terms) | load))
    return int(any(row.status == "crashed" for row in rows))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", type=areas, default=AREAS, help=f"some of {','.join(AREAS)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--quick", action="store_true", help="one pair each: shows that all runs, judges nothing"
    )
    parser.add_argument(
        "--model", type=Path, default=DEMO, help="a diffusers folder (default: the demo model)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result")
    parser.add_argument("--against", type=Path, metavar="OLD.json", help="print what moved since")
    return parser


def areas(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in AREAS]:
        raise argparse.ArgumentTypeError(f"no benchmark '{unknown[0]}'; there are {', '.join(AREAS)}")
    return names


def all_rows(names: Sequence[str], terms: Terms) -> Iterator[Row]:
    for name in names:
        start = time.perf_counter()
        yield from area_rows(name, terms)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


def area_rows(name: str, terms: Terms) -> Iterator[Row]:
    """The rows of an area; where it crashes, those that it had already given and one that says so."""
    if reason := cannot_run(terms):
        yield skipped(name, reason)
        return
    try:
        yield from importlib.import_module(f"tests.benchmarks.{name}").rows(terms)
    except Exception as error:
        traceback.print_exc()
        yield crashed(name, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def cannot_run(terms: Terms) -> str:
    """Why nothing can be measured here, '' when it can."""
    if not (terms.model / "model_index.json").is_file():
        return f"there is no model at {terms.model}"
    if terms.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "there is no CUDA device"
    return ""


def limits(terms: Terms) -> dict[str, Any]:
    """The measured ceilings, empty where they cannot be taken."""
    if cannot_run(terms):
        return {}
    from tests.benchmarks.ceilings import ceilings

    return ceilings(terms.device, terms.quick)


if __name__ == "__main__":
    sys.exit(main())
