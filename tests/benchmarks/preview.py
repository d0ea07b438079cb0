"""What the live preview costs (goal 18): the engine with one at every step against the engine with none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from pipelines.runtime import engine as runtime_engine
from pipelines.spec.events import Event, StepDone
from tests.benchmarks.engine import engine_run, one_thread, options_for
from tests.benchmarks.models import NARROW, record_of, request_for, write_sd
from tests.benchmarks.pairs import Interval, Sample, in_turns, warm_up
from tests.benchmarks.rows import Goal, Row, measured
from tests.benchmarks.terms import Terms

PAIRS, RUNS = 10, 5
STEPS = 20
EVERY_STEP_S = 1e-9
NEVER_S = 0.0


def rows(terms: Terms) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder, one_thread():
        yield _row(terms, Path(folder))


def previews(told: list[Event]) -> int:
    return sum(isinstance(event, StepDone) and event.preview is not None for event in told)


def _row(terms: Terms, folder: Path) -> Row:
    """On the CPU what previews add is taken with a network that computes little, whose noise is as little."""
    own = record_of(terms.model)
    narrow = terms.device == "cpu"
    record = record_of(write_sd(folder / "models" / "narrow", NARROW)) if narrow else own
    steps = 6 if terms.quick else STEPS
    request = request_for(record, steps=steps)
    seen: list[int] = []
    with_previews, without = (
        runtime_engine.build(options_for(terms, folder, preview_interval_s=s))
        for s in (EVERY_STEP_S, NEVER_S)
    )

    def ours() -> Sample:
        sample, told = engine_run(with_previews, record, request, terms.device)
        seen.append(previews(told))
        return sample

    def bare() -> Sample:
        sample, told = engine_run(without, record, request, terms.device)
        assert previews(told) == 0, "previews were made although none were wanted"
        return sample

    def whole() -> Sample:
        """A step of the model that is measured."""
        return engine_run(without, own, request_for(own, steps=steps), terms.device)[0]

    ours()
    whole()
    warm_up(lambda: bare()["wall"], most=1 if terms.quick else 8)
    pairs = in_turns(ours, bare, terms.times(PAIRS), terms.order)
    key = "cpu" if narrow else "wall"
    baseline = median([whole()[key] for _ in range(terms.times(RUNS))]) if narrow else pairs.middles(key)[1]
    added = pairs.difference(key)
    return measured(
        "preview.latent_rgb",
        (baseline + added.middle) * 1e3,
        "CPU-ms" if narrow else "ms",
        Interval(*(1 + each / baseline for each in (added.middle, added.lo, added.hi))),
        baseline_name="step without",
        baseline=baseline * 1e3,
        n=len(pairs),
        goal=Goal(sign="<=", bound=1.01),
        note=f"{min(seen)} previews in {steps} steps"
        + ("; what they add is taken with a narrow network of the same latents" if narrow else ""),
    )
