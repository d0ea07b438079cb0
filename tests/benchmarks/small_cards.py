"""The demo models on counting cards that are too small for them (goals 4, 5): what was predicted, and the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.runtime import preflight
from pipelines.runtime.compute import Compute
from pipelines.runtime.engine import Engine
from pipelines.runtime.placement import Rung
from pipelines.spec.errors import OutOfMemory
from pipelines.spec.events import ImageSaved
from pipelines.spec.job import Job
from pipelines.spec.measured import Measured
from pipelines.spec.options import EngineOptions
from tests.benchmarks.models import job_for, prompted
from tests.benchmarks.pairs import Interval, worst_of
from tests.benchmarks.rows import Goal, Row, measured
from tests.runtime.fake_card import FakeCard, counting, counting_weights

MODELS = ("demo-sd", "demo-sdxl", "demo-flux")
PERCENTS, QUICK_PERCENTS = range(95, 0, -15), (70,)
ROOMY = 2**32


@dataclass(frozen=True, slots=True)
class Drawn:
    """Bytes: `predicted` by the last plan, and the `most` that were on the card. `seen`: what computing took."""

    picture: bytes
    rung: Rung
    predicted: int
    most: int
    seen: tuple[Measured, ...]


def drawn(
    job: Job, options: EngineOptions, limit: int = ROOMY, seen: tuple[Measured, ...] = (), decode: bool = True
) -> Drawn:
    """By the engine, on a card of `limit` bytes where `seen` was measured before; `decode`: decoding counts too.

    Raises OutOfMemory.
    """
    card = FakeCard(limit)
    compute = Compute(options, card)
    compute._usage.seen = seen
    settle, placed = compute.settle, list[Any]()
    with pytest.MonkeyPatch.context() as patch, counting(card.memory, patch, decode):
        for kind in (
            "UNET",
            "SDXL",
            "FLUX",
        ):  # no library takes memory for itself on a card that does not exist
            patch.setattr(preflight, kind, replace(getattr(preflight, kind), workspace=0))
        patch.setattr(compute, "settle", lambda job, place: (placed.append(place), settle(job, place))[1])
        patch.setattr(compute, "load_all", counting_weights(compute, card))
        told: list[Any] = []
        Engine(compute, options).run(job, told.append)
    path = next(event.path for event in told if isinstance(event, ImageSaved))
    with Image.open(path) as picture:
        pixels = picture.tobytes()
    Path(path).unlink()
    return Drawn(pixels, placed[-1].rung, placed[-1].peak_vram, card.memory.most, compute._usage.seen)


def card_rows(options: EngineOptions, quick: bool) -> Iterator[Row]:
    """Cards of less and less, until nothing fits; once more with a decoder that takes nothing, as it takes most."""
    records = {record.id: record for record in scan([demo_root()])}
    ratios, different, rungs = list[float](), list[bool](), set[Rung]()
    for model in MODELS[:1] if quick else MODELS:
        job = job_for(records[model], prompted(records[model], 0, seed=3))
        for decode in (True, False):
            roomy = drawn(job, options, decode=decode)
            for small in _smaller(job, options, roomy, decode, quick):
                different.append(small.picture != roomy.picture)
                rungs.add(small.rung)
                if decode:
                    ratios.append(small.predicted / small.most)
    words = ", ".join(rung.name.lower() for rung in sorted(rungs))
    yield from _peak_rows(ratios)
    yield measured(
        "streaming.pictures",
        sum(different),
        "pictures differ",
        Interval(sum(different), sum(different), sum(different)),
        n=len(different),
        goal=Goal(sign="<=", bound=0, of="value"),
        note=f"bit for bit, against all on the card; {words}",
    )


def _smaller(job: Job, options: EngineOptions, roomy: Drawn, decode: bool, quick: bool) -> Iterator[Drawn]:
    seen = roomy.seen
    if not decode:
        seen = tuple(replace(each, size_bytes=0) if each.stage == "decode" else each for each in seen)
    for percent in QUICK_PERCENTS if quick else PERCENTS:
        try:
            yield drawn(job, options, roomy.most * percent // 100, seen, decode)
        except OutOfMemory:
            return


def _peak_rows(ratios: list[float]) -> Iterator[Row]:
    for name, sign, bound in (("peak_most", "<=", 1.08), ("peak_least", ">=", 1.0)):
        own = worst_of(ratios)
        yield measured(
            f"streaming.{name}",
            own.middle,
            "x counted",
            own,
            n=len(ratios),
            goal=Goal(sign=sign, bound=bound, of="value"),
            note="predicted peak over the counted one, demo models on counting cards",
        )
