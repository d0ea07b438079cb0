"""How long the window does not answer while the engine works (goal 14), against a naive thread."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.spec.families import by_id
from tests.benchmarks.children import run_child
from tests.benchmarks.models import TINY, record_of, write_sd
from tests.benchmarks.pairs import AB, Sample, bootstrap, in_turns, worst_of
from tests.benchmarks.rows import Goal, Row, measured, skipped
from tests.benchmarks.terms import Terms

PAIRS, RUNS = 6, 5
WORST_MS, PAGE_WORST_MS, P99_MS = 50.0, 100.0, 16.0
PHASES = ("import", "sampling")
LORA = ("demo-sd", "demo-sd-neon")
MODELS, QUICK_MODELS = 10_000, 200
GIGABYTE = replace(TINY, channels=(320, 640, 1280, 1280), layers=1, heads=8, groups=32)
LATER = {"stalls.gallery": "the gallery of 100,000 pictures is not built yet"}


def rows(terms: Terms) -> Iterator[Row]:
    told: list[dict[str, Any]] = []
    arguments = naive_arguments(terms)

    def ours() -> Sample:
        told.append(run_child("app_stalls", str(terms.model)))
        return {"worst": worst(told[-1])}

    def naive() -> Sample:
        return {"worst": worst(run_child("naive_stalls", *arguments))}

    pairs = in_turns(ours, naive, terms.times(PAIRS), AB)
    for phase in PHASES:
        yield from _rows_of(phase, told)
    value, baseline = pairs.middles("worst")
    yield measured(
        "stalls.against_naive",
        value,
        "ms",
        pairs.ratio("worst"),
        baseline_name="plain thread, gc on",
        baseline=baseline,
        n=len(pairs),
        goal=Goal(sign="<=", bound=0.1),
        note=f"worst of {' and '.join(PHASES)}",
    )
    yield from _load_rows(terms)
    yield from _rows_of("lora", [run_child("lora_stalls", *LORA) for _ in range(terms.times(RUNS))])
    count = QUICK_MODELS if terms.quick else MODELS
    told = [run_child("models_page", str(count)) for _ in range(terms.times(RUNS))]
    yield from _rows_of("models_scan", told, PAGE_WORST_MS)
    yield from _rows_of("models_page", told, PAGE_WORST_MS)
    yield from (skipped(name, reason) for name, reason in LATER.items())


def _load_rows(terms: Terms) -> Iterator[Row]:
    """A model of about 1 GB with random weights; none of its first load is left out."""
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder:
        model = write_sd(Path(folder) / "model", TINY if terms.quick else GIGABYTE)
        size = sum(file.stat().st_size for file in model.rglob("*.safetensors"))
        told = [run_child("load_stalls", folder) for _ in range(terms.times(RUNS))]
    yield from _rows_of("load", told, note=f"{size / 1e9:.2f} GB")


def naive_arguments(terms: Terms) -> tuple[str, ...]:
    """The picture that the program draws when Generate is pressed at the first start."""
    record = record_of(terms.model)
    family = by_id(record.family)
    sampling = record.sampling or family.sampling
    side = record.native_size or family.sizes.native
    return str(terms.model), str(sampling.num_inference_steps), str(sampling.guidance_scale), str(side)


def worst(told: dict[str, Any]) -> float:
    return max(told[phase]["worst"] for phase in PHASES)


def _rows_of(
    phase: str, told: list[dict[str, Any]], worst_ms: float = WORST_MS, note: str = ""
) -> Iterator[Row]:
    """The worst gap is held against the worst run, the 99th percentile against the interval of all."""
    kind = "net of waiting for a CPU" if told[0]["net"] else "raw: this system does not tell the waiting time"
    for key, bound, interval_of in (("worst", worst_ms, worst_of), ("p99", P99_MS, bootstrap)):
        interval = interval_of([found[phase][key] for found in told])
        raw = max(found[phase]["raw_worst"] for found in told)
        yield measured(
            f"stalls.{phase}_{key}",
            interval.middle,
            "ms",
            interval,
            n=len(told),
            goal=Goal(sign="<=", bound=bound, of="value"),
            note=f"{kind}; raw worst {raw:.0f} ms{note and '; '}{note}",
        )
