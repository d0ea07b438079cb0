"""How soon the card under Generate knows: the pure plan, and the whole pre-flight with headers read before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from pipelines.library.known_sizes import KnownSizes
from pipelines.library.models import record_of
from pipelines.runtime.outlook import outlook
from pipelines.runtime.placement import Budget, plan
from pipelines.runtime.preflight import preflight
from pipelines.spec.job import Job
from pipelines.spec.request import GenerationRequest, Size
from tests.benchmarks.pairs import bootstrap
from tests.benchmarks.rows import Goal, Row, measured
from tests.benchmarks.terms import Terms

TIMES = 200
GOAL = Goal(sign="<=", bound=50.0, of="value")


def rows(terms: Terms) -> Iterator[Row]:
    record = record_of(terms.model)
    request = GenerationRequest(model=record.id, size=Size(width=512, height=512))
    job, budget, sizes = (
        Job(id=0, request=request, model=record),
        Budget.of_card(8 * 2**30, 16 * 2**30),
        KnownSizes(),
    )
    asked = preflight(job, budget, sizes_of=sizes).asked
    # Nothing fits: every way is tried, and then the offers.
    none = replace(budget, vram=2**28)
    yield _row("plan.pure", terms, lambda: plan(*asked), "a plan from known sizes")
    yield _row("plan.preflight", terms, lambda: outlook(job, budget, sizes=sizes), "headers in memory")
    yield _row(
        "plan.too_large", terms, lambda: outlook(job, none, sizes=sizes), "no way fits, offers are looked for"
    )


def _row(name: str, terms: Terms, run: Callable[[], object], note: str) -> Row:
    values = []
    for _ in range(terms.times(TIMES)):
        start = time.perf_counter()
        run()
        values.append(1000 * (time.perf_counter() - start))
    own = bootstrap(values)
    return measured(name, own.middle, "ms", own, n=len(values), goal=GOAL, note=note)
