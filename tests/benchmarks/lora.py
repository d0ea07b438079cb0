"""What a LoRA costs (goals 8, 9): to change it, to weigh it otherwise, and beside each step. On the demo models."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file, save_file

from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.runtime import engine as runtime_engine
from pipelines.runtime.engine import Engine
from pipelines.runtime.low_rank import NONE
from pipelines.runtime.meter import Meter
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import LoraInput
from tests.benchmarks.engine import middle_step, one_thread, options_for, scaled
from tests.benchmarks.models import request_for
from tests.benchmarks.pairs import Sample, in_turns
from tests.benchmarks.rows import Goal, Row, measured
from tests.benchmarks.terms import Terms

PAIRS, STEP_PAIRS, STEPS = 10, 12, 12
RANK, NARROW = 4, 2  # of the demo LoRAs, in every layer of the denoiser, and of one cut down


@dataclass(frozen=True, slots=True)
class Case:
    """Two LoRAs of a model; where there is but one, the other is one of the same shape with half its numbers."""

    model: str
    one: str
    other: str
    pipeline: str


CASES = {
    "sd": Case("demo-sd", "demo-sd-neon", "demo-sd-crayon", "StableDiffusionPipeline"),
    "sdxl": Case("demo-sdxl", "demo-sdxl-neon", "demo-sdxl-neon", "StableDiffusionXLPipeline"),
}


def rows(terms: Terms) -> Iterator[Row]:
    records = {record.id: record for record in scan([demo_root()])}
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder, one_thread():
        engine = runtime_engine.build(options_for(terms, Path(folder), dtype="float32"))
        for name, case in CASES.items():
            yield from _change_rows(name, case, records, engine, terms, Path(folder))
        yield from _step_rows(records, engine, terms, Path(folder))
        engine.close()


def with_loras(
    records: dict[str, ModelRecord],
    model: str,
    loras: Sequence[str],
    steps: int = 2,
    weight: float = 1.0,
    weights: str = "",
) -> Job:
    """`weight` is that of each LoRA, `weights` what those of the model are packed into."""
    record = records[model]
    used = tuple(LoraInput(model=lora, weight=weight) for lora in loras)
    request = replace(request_for(record, steps=steps), loras=used, weights=weights)
    return Job(id=1, request=request, model=record, parts={lora: records[lora] for lora in loras})


class Ours:
    """The engine's way: networks are settled before they compute."""

    def __init__(self, engine: Engine, job: Job) -> None:
        """`job` is one with the first LoRA."""
        self._compute = engine.compute
        engine.run(job, lambda event: None)

    def change(self, job: Job, read: bool = False) -> Sample:
        """All that a job pays for another LoRA than the last one had; `read` from its file, as at its first use."""
        compute = self._compute
        compute.settle(job, compute.plan(job))
        roles, meter = compute.roles(job, by_id(job.model.family)), Meter(job)
        models = compute.load_all(job, roles, meter)
        if read:
            paths = [record.path for record in job.parts.values()]
            compute.store.drop([key for key, _ in compute.store.parts() if key.folder in paths])
        with Stopwatch() as clock:
            with compute.conditioned(job, roles, models, meter) as (model, *_):
                for name in (n for n in model.parts if n.startswith(("unet", "text_encoder"))):
                    compute.adapters.settle(model.parts[name], model.adapters.get(name, NONE))
            compute.occupancy.leave()
        return clock.sample()


class Stopwatch:
    """A context that tells how long it took."""

    def __enter__(self):
        self._begin = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._end = time.perf_counter(), time.process_time()

    def sample(self) -> Sample:
        (wall, cpu), (wall_end, cpu_end) = self._begin, self._end
        return {"wall": wall_end - wall, "cpu": cpu_end - cpu}


class Theirs:
    """diffusers' way: `unload_lora_weights`, then `load_lora_weights`."""

    def __init__(self, case: Case, record: ModelRecord, lora: ModelRecord) -> None:
        build = getattr(diffusers, case.pipeline)
        self._pipe: Any = build.from_pretrained(record.path, dtype=torch.float32, local_files_only=True)
        self._put(lora)

    def _put(self, lora: ModelRecord) -> None:
        self._pipe.load_lora_weights(lora.path, adapter_name="style")

    def change(self, lora: ModelRecord) -> Sample:
        with Stopwatch() as clock:
            self._pipe.unload_lora_weights()
            self._put(lora)
        return clock.sample()

    def weigh(self, weight: float) -> Sample:
        with Stopwatch() as clock:
            self._pipe.set_adapters(["style"], [weight])
        return clock.sample()


def alternating(*choices: Callable[[], Sample]) -> Callable[[], Sample]:
    """Each in its turn."""
    turn = iter(range(1 << 30))
    return lambda: choices[next(turn) % len(choices)]()


def narrowed(lora: ModelRecord, file: Path) -> ModelRecord:
    """The LoRA with the first `NARROW` of its ranks."""
    wide = load_file(lora.path)
    cut = {
        name: (t[:NARROW] if ".lora_A." in name else t[:, :NARROW]).contiguous() for name, t in wide.items()
    }
    save_file(cut, file, metadata={"format": "pt"})
    return replace(lora, id=f"{lora.id}-narrow", path=str(file))


def halved(lora: ModelRecord, file: Path) -> ModelRecord:
    """Another LoRA of the same shape."""
    save_file({name: t / 2 for name, t in load_file(lora.path).items()}, file, metadata={"format": "pt"})
    return replace(lora, id=f"{lora.id}-halved", path=str(file))


def _change_rows(
    name: str, case: Case, records: dict[str, ModelRecord], engine: Engine, terms: Terms, folder: Path
) -> Iterator[Row]:
    narrow = narrowed(records[case.one], folder / f"{name}.safetensors")
    other = records[case.other]
    if case.other == case.one:
        other = halved(other, folder / f"{name}-other.safetensors")
    records = records | {lora.id: lora for lora in (narrow, other)}
    jobs = [with_loras(records, case.model, [lora]) for lora in (case.one, other.id)]
    ours = Ours(engine, jobs[0])
    theirs = Theirs(case, records[case.model], records[case.one])
    base = alternating(*(partial(theirs.change, records[lora]) for lora in (other.id, case.one)))
    for what, read in (("change", False), ("change_first", True)):
        run = alternating(*(partial(ours.change, job, read) for job in jobs[::-1]))
        note = "the same shape" + (", with the read of the file" if read else ", used before")
        yield _change_row(f"lora.{name}_{what}", run, base, 0.05, note, terms)
    jobs[1] = with_loras(records, case.model, [narrow.id])
    run = alternating(*(partial(ours.change, job, True) for job in jobs[::-1]))
    base = alternating(partial(theirs.change, narrow), partial(theirs.change, records[case.one]))
    note = f"rank {NARROW} and rank {RANK} in turns, with the read of the file"
    yield _change_row(f"lora.{name}_other_shape", run, base, 0.5, note, terms)
    yield _weight_row(name, case, records, ours, theirs, terms)


def _change_row(
    name: str, run: Callable[[], Sample], base: Callable[[], Sample], bound: float, note: str, terms: Terms
) -> Row:
    pairs = in_turns(run, base, terms.times(PAIRS), terms.order)
    middle, against = pairs.middles("cpu")
    return measured(
        name,
        middle * 1e3,
        "CPU-ms",
        pairs.ratio("cpu"),
        baseline_name="unload + load_lora_weights",
        baseline=against * 1e3,
        n=len(pairs),
        goal=Goal(sign="<=", bound=bound),
        note=note,
    )


def _weight_row(
    name: str, case: Case, records: dict[str, ModelRecord], ours: Ours, theirs: Theirs, terms: Terms
) -> Row:
    weights = (0.6, 0.8)
    jobs = [with_loras(records, case.model, [case.one], weight=weight) for weight in weights]
    pairs = in_turns(
        alternating(*(partial(ours.change, job) for job in jobs)),
        alternating(*(partial(theirs.weigh, weight) for weight in weights)),
        terms.times(PAIRS),
        terms.order,
    )
    middle, against = pairs.middles("cpu")
    return measured(
        f"lora.{name}_weight",
        middle * 1e3,
        "CPU-ms",
        pairs.own("cpu", 1e3),
        baseline_name="set_adapters",
        baseline=against * 1e3,
        n=len(pairs),
        goal=Goal(sign="<=", bound=1.0, of="value"),
        note="the same LoRA at another weight",
    )


def _step_rows(records: dict[str, ModelRecord], engine: Engine, terms: Terms, folder: Path) -> Iterator[Row]:
    """Seconds of a step with LoRAs, and without, on the same weights."""
    steps = 4 if terms.quick else STEPS
    neon, three = ["demo-sd-neon"], ["demo-sd-neon", "demo-sd-crayon", "demo-sd-mosaic"]
    narrow = [narrowed(records[lora], folder / f"{lora}.safetensors") for lora in three[:2]]
    records = records | {lora.id: lora for lora in narrow}
    five = [*three, *(lora.id for lora in narrow)]
    cases = {
        "sd": ("demo-sd", neon, ""),
        "sd_5": ("demo-sd", five, ""),
        "sd_int8": ("demo-sd", neon, "int8"),
        "sd_int8_5": ("demo-sd", five, "int8"),
        "sdxl": ("demo-sdxl", ["demo-sdxl-neon"], ""),
    }
    for name, (model, loras, weights) in cases.items():
        jobs = [with_loras(records, model, used, steps, weights=weights) for used in (loras, [])]
        run, plain = (partial(_step, engine, job, terms.device) for job in jobs)
        pairs = in_turns(run, plain, terms.times(STEP_PAIRS), terms.order)
        middle, against = pairs.middles("cpu")
        yield measured(
            f"lora.{name}_step",
            middle * 1e3,
            "CPU-ms",
            pairs.ratio("cpu"),
            baseline_name="step without",
            baseline=against * 1e3,
            n=len(pairs),
            goal=Goal(sign="<=", bound=1.05),
            note=f"{_active(loras)}{f' on {weights}' if weights else ''}; "
            f"{_more(scaled(pairs.difference('cpu'), 1e3).middle)}",
        )


def _active(loras: Sequence[str]) -> str:
    narrow = sum(lora.endswith("-narrow") for lora in loras)
    return f"{len(loras)} active, rank {RANK}" + (f", {narrow} of them rank {NARROW}" if narrow else "")


def _more(milliseconds: float) -> str:
    return f"{milliseconds:+.2f} CPU-ms a step"


def _step(engine: Engine, job: Job, device: str) -> Sample:
    return middle_step(engine, job, device)[0]
