"""How long the window does not answer while the engine works (goal 14), against a naive thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.spec.families import by_id
from tests.benchmarks.children import run_child
from tests.benchmarks.models import record_of
from tests.benchmarks.pairs import AB, Sample, bootstrap, in_turns, worst_of
from tests.benchmarks.rows import Goal, Row, measured, skipped
from tests.benchmarks.terms import Terms

PAIRS = 6
PHASES = ("import", "sampling")
LATER = {
    "stalls.load": "there is no model of 1 GB here",
    "stalls.lora": "no LoRA ships with the program yet",
    "stalls.gallery": "the gallery of 100,000 pictures is not built yet",
}


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
        yield from _phase_rows(phase, told)
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
    yield from (skipped(name, reason) for name, reason in LATER.items())


def naive_arguments(terms: Terms) -> tuple[str, ...]:
    """The picture that the program draws when Generate is pressed at the first start."""
    record = record_of(terms.model)
    family = by_id(record.family)
    sampling = record.sampling or family.sampling
    side = record.native_size or family.sizes.native
    return str(terms.model), str(sampling.num_inference_steps), str(sampling.guidance_scale), str(side)


def worst(told: dict[str, Any]) -> float:
    return max(told[phase]["worst"] for phase in PHASES)


def _phase_rows(phase: str, told: list[dict[str, Any]]) -> Iterator[Row]:
    """The worst gap is held against the worst run, the 99th percentile against the interval of all."""
    kind = "net of waiting for a CPU" if told[0]["net"] else "raw: this system does not tell the waiting time"
    for key, bound, interval_of in (("worst", 50.0, worst_of), ("p99", 16.0, bootstrap)):
        interval = interval_of([found[phase][key] for found in told])
        raw = max(found[phase]["raw_worst"] for found in told)
        yield measured(
            f"stalls.{phase}_{key}",
            interval.middle,
            "ms",
            interval,
            n=len(told),
            goal=Goal(sign="<=", bound=bound, of="value"),
            note=f"{kind}; raw worst {raw:.0f} ms",
        )
