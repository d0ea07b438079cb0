"""What the switches of spec/speed.py gain and what they cost, on the demo models, each way to draw in its turn.

A pair is one held-out prompt: the time of a step with the switch against without, how far the two pictures are apart
(mean of all colour values, of 255), and which share of what the prompt asks for each got right, as `semantics` judges
it. Random weights say nothing of step caches: they answer alike at every step, and all of it is left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from assets.demo.recipes.drawings import Drawing
from pipelines.library.folders import demo_root
from pipelines.runtime import engine as runtime_engine
from pipelines.runtime.worker import Engine
from pipelines.spec.events import Event, ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Speed
from pipelines.spec.speed import CACHE_NAMES, offered
from tests.benchmarks.engine import engine_run, one_thread, options_for, saved_picture
from tests.benchmarks.models import record_of, request_for
from tests.benchmarks.pairs import Pairs, Sample
from tests.benchmarks.prompts import prompts
from tests.benchmarks.recompiles import recompiles_row
from tests.benchmarks.rows import Goal, Row, measured, skipped
from tests.benchmarks.scoring import judge, read
from tests.benchmarks.terms import Terms

MODELS = ("flux", "sdxl", "sd")
PROMPTS = 30
STEPS = 20
# Goal 20, as what a step may take on a card.
GOALS = {("flux", "compile"): 1 / 1.25, ("sdxl", "compile"): 1 / 1.2}


@dataclass(slots=True)
class _Side:
    """Of one way to draw the prompts."""

    samples: list[Sample] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)

    @property
    def share(self) -> float:
        return sum(self.right) / max(1, len(self.right))


def rows(terms: Terms) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder, one_thread():
        for name in MODELS:
            root = demo_root() / name
            if not (root / "model_index.json").is_file():
                yield skipped(f"switches.{name}", f"there is no model at {root}")
                continue
            engine = runtime_engine.build(options_for(terms, Path(folder), preview_interval_s=0))
            yield from _model_rows(name, record_of(root), engine, terms)
            yield recompiles_row(name, engine, Path(folder))
            engine.close()
            torch._dynamo.reset()


def variants(record: ModelRecord) -> dict[str, Speed]:
    """Each switch alone, and those together that change nothing but rounding."""
    single = [row.id for row in offered(by_id(record.family)) if row.id != "step_cache"]
    able = len(single) < len(offered(by_id(record.family)))
    found = {name: Speed(step_cache=name) for name in CACHE_NAMES if able}
    return found | {name: replace(Speed(), **{name: True}) for name in single}


def _model_rows(name: str, record: ModelRecord, engine: Engine, terms: Terms) -> Iterator[Row]:
    """One round for each prompt, in which every way draws it once; who begins changes from round to round."""
    ways = {"": Speed(), **variants(record)}
    sides = {way: _Side() for way in ways}
    asked = prompts(PROMPTS)[: terms.times(PROMPTS)]
    request = request_for(record, steps=6 if terms.quick else STEPS)
    for speed in ways.values():  # compiles, and measures
        _draw(engine, record, replace(request, speed=speed), asked[0][1], terms, _Side())
    for number, (text, drawing) in enumerate(asked):
        own = replace(request, prompt=Prompt(text=text), sampling=replace(request.sampling, seed=number))
        begin = number % len(ways)
        for way in [*ways][begin:] + [*ways][:begin]:
            _draw(engine, record, replace(own, speed=ways[way]), drawing, terms, sides[way])
    plain = sides.pop("")
    for way, side in sides.items():
        yield _row(name, way, plain, side, terms)


def _draw(
    engine: Engine,
    record: ModelRecord,
    request: GenerationRequest,
    drawing: Drawing,
    terms: Terms,
    side: _Side,
) -> None:
    sample, told = engine_run(engine, record, request, terms.device)
    picture = np.asarray(saved_picture(told))
    side.samples.append(sample)
    side.pictures.append(picture)
    side.right += judge(drawing, read(picture)).values()
    side.marks |= _marks(told)


def _marks(told: list[Event]) -> set[str]:
    return {mark for event in told if isinstance(event, ImageSaved) for mark in event.marks} - {"uniform"}


def _row(name: str, variant: str, plain: _Side, quick: _Side, terms: Terms) -> Row:
    if quick.marks:
        return skipped(f"switches.{name}.{variant}", " ".join(sorted(quick.marks)))
    pairs = Pairs(tuple(quick.samples), tuple(plain.samples))
    key = "wall" if terms.device == "cuda" else "cpu"
    value, baseline = pairs.middles(key)
    off = np.mean([
        np.abs(one.astype(float) - other).mean()
        for one, other in zip(quick.pictures, plain.pictures, strict=True)
    ])  # fmt: skip
    bound = (
        GOALS.get((name, variant)) if terms.device == "cuda" else None
    )  # a small network gains nothing there
    return measured(
        f"switches.{name}.{variant}", value * 1e3, "ms" if key == "wall" else "CPU-ms", pairs.ratio(key),
        n=len(pairs), goal=Goal(sign="<=", bound=round(bound, 3)) if bound else None, baseline_name="step without",
        baseline=baseline * 1e3,
        note=f"pixels {off:.2f} of 255; right {quick.share:.1%} against {plain.share:.1%}",
    )  # fmt: skip
