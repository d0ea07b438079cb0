"""How often compiled blocks are compiled anew (goal 20): not for another LoRA, another weight, or a third size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.runtime.speed import compiled, compiler
from pipelines.runtime.worker import Engine
from pipelines.spec.events import Event, ImageSaved
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import Size, Speed
from tests.benchmarks.lora import halved, with_loras
from tests.benchmarks.pairs import worst_of
from tests.benchmarks.rows import Goal, Row, measured

STEPS = 2
PACKED = ("", "int8")  # of int8 layers the LoRA is in the compiled program


@contextmanager
def counting() -> Iterator[list[int]]:
    """Programs are counted by the numbers of their operations and run as they are, without a compiler."""
    programs: list[int] = []

    def backend(module: Any, _inputs: object) -> Any:
        programs.append(len(module.graph.nodes))
        return module.forward

    with (
        mock.patch.object(compiled, "BACKEND", backend),
        mock.patch.object(compiler, "why_not", return_value=""),
    ):
        yield programs


def recompiles_row(name: str, engine: Engine, folder: Path) -> Row:
    """A job with each kind of change comes first, as blocks are compiled once for their own size and once for all."""
    records = {record.id: record for record in scan([demo_root()])}
    neon = records[f"demo-{name}-neon"]
    other = halved(neon, folder / f"{name}-other.safetensors")
    records[other.id] = other
    side = records[f"demo-{name}"].native_size or 256
    sizes = [Size(width=side + 64 * w, height=side + 64 * h) for w, h in ((0, 0), (-1, 0), (1, -1), (-1, 1))]

    changes = [
        (neon, 0.6, 0),
        (neon, -0.4, 0),
        (other, 1.0, 0),
        (other, 0.5, 1),
        (neon, 1.0, 2),
        (other, 0.7, 3),
    ]
    first, anew = 0, list[int]()
    with counting() as programs:
        for weights in PACKED:
            draw = partial(_draw, engine, records, f"demo-{name}", weights)
            before = len(programs)
            for size in sizes[:2]:
                draw(neon, 1.0, size)
            first += len(programs) - before
            for lora, weight, size in changes:
                before = len(programs)
                draw(lora, weight, sizes[size])
                anew.append(len(programs) - before)
    return measured(
        f"switches.{name}.recompiles",
        sum(anew),
        "programs",
        worst_of(anew),
        n=len(anew),
        goal=Goal(sign="<=", bound=0, of="value"),
        note=f"whole and int8; {first} for two sizes, then another LoRA, other weights, a third and a fourth size",
    )


def _draw(
    engine: Engine,
    records: dict[str, ModelRecord],
    model: str,
    weights: str,
    lora: ModelRecord,
    weight: float,
    size: Size,
) -> None:
    """Raises AssertionError where blocks were not compiled."""
    job = with_loras(records, model, [lora.id], STEPS, weight, weights)
    told: list[Event] = []
    engine.run(replace(job, request=replace(job.request, size=size, speed=Speed(compile=True))), told.append)
    marks = [mark for event in told if isinstance(event, ImageSaved) for mark in event.marks]
    assert not any("compile" in mark.lower() for mark in marks), marks
