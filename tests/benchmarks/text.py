"""What a prompt costs that was read before (goal 10): no time, no run of an encoder, no byte over the bus."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from pipelines.runtime.compute import Compute
from pipelines.runtime.engine import Engine
from pipelines.runtime.placement import Rung
from pipelines.spec.events import Event, Stage, StageChanged
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest
from tests.benchmarks.engine import options_for
from tests.benchmarks.lane import stage_seconds
from tests.benchmarks.models import TINY, job_for, prompted, record_of, write_sd
from tests.benchmarks.pairs import bootstrap, worst_of
from tests.benchmarks.rows import Goal, Row, measured
from tests.benchmarks.terms import Terms

# CLIP-L, the smallest encoder in the field; what it writes for is tiny, as only the text is measured.
CLIP_L = replace(TINY, text_width=768, text_layers=12, text_heads=12)
PROMPTS = 8
ROOMY = 1 << 36


def rows(terms: Terms) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder:
        place = Path(folder)
        record = record_of(write_sd(place / "model", TINY if terms.quick else CLIP_L))
        options = options_for(terms, place, threads=0, dtype="float32")
        engine = Engine(Compute(options), options)
        yield from _time_rows(engine, record, terms.times(PROMPTS))
        engine.close()
        yield _bytes_row(partial(_on_small_card, options), record, terms.times(PROMPTS))


def _time_rows(engine: Engine, record: ModelRecord, prompts: int) -> Iterator[Row]:
    """Each prompt twice; one before them all reads the model and the negative prompt."""
    encoder = engine.compute.prompts
    _stage_s(engine, record, prompted(record, 0, 0))
    firsts, repeats, again = [], [], 0
    for number in range(1, 1 + prompts):
        firsts.append(_stage_s(engine, record, prompted(record, number, 1)))
        before = encoder.encodes
        repeats.append(_stage_s(engine, record, prompted(record, number, 2)))
        again += encoder.encodes - before
    yield measured(
        "text.repeat",
        median(repeats) * 1e3,
        "ms",
        bootstrap([b / a for a, b in zip(firsts, repeats, strict=True)]),
        baseline_name="first time",
        baseline=median(firsts) * 1e3,
        n=prompts,
        goal=Goal(sign="<=", bound=0.01),
        note="the whole text stage of a job; CLIP-L's layers",
    )
    none = Goal(sign="<=", bound=0, of="value")
    yield measured(
        "text.encoder_runs",
        again,
        "runs",
        worst_of([again]),
        n=prompts,
        goal=none,
        note="of repeated prompts",
    )


def _stage_s(engine: Engine, record: ModelRecord, request: GenerationRequest) -> float:
    told = stage_seconds(partial(engine.run, job_for(record, request)))
    return told[Stage.ENCODE]


def _on_small_card(options, record: ModelRecord):
    """An engine on a card that counts, a byte too small for all parts of the model at a time."""
    from tests.runtime.fake_card import FakeCard

    job = job_for(record, prompted(record, 0, 0))
    roomy = Compute(options, FakeCard(ROOMY))
    Engine(roomy, options).run(job, lambda event: None)  # tells what computing takes there: nothing
    card = FakeCard(roomy.plan(job).peak_vram - 1)
    compute = Compute(options, card)
    compute._usage.seen = roomy._usage.seen
    assert compute.plan(job).rung is not Rung.RESIDENT
    return Engine(compute, options), card.mover_


def _bytes_row(small: Callable, record: ModelRecord, prompts: int) -> Row:
    engine, mover = small(record)
    firsts, repeats = [], []
    for number in range(prompts):
        for seed, seen in ((1, firsts), (2, repeats)):
            seen.append(_copied(engine, mover, record, prompted(record, number, seed)))
    engine.close()
    assert min(firsts) > 0, "a new prompt has moved no encoder either"
    return measured(
        "text.encoder_bytes",
        median(repeats),
        "bytes",
        worst_of(repeats),
        baseline_name="first time",
        baseline=median(firsts),
        n=prompts,
        goal=Goal(sign="<=", bound=0, of="value"),
        note="copied to a counting card for text encoders that leave it; repeated prompts",
    )


def _copied(engine: Engine, mover, record: ModelRecord, request: GenerationRequest) -> int:
    """Bytes between the begin and the end of the text stage."""
    marks: list[int] = []

    def emit(event: Event) -> None:
        if (
            isinstance(event, StageChanged)
            and event.stage in (Stage.ENCODE, Stage.DENOISE)
            and not event.note
        ):
            marks.append(mover.copied)

    engine.run(job_for(record, request), emit)
    return marks[1] - marks[0]
