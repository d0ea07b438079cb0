"""A picture of true size drawn by the engine on a card that does not exist, without weights: what each stage takes.

All of the engine runs, from the headers of the files to the picture, which is black. Counted are the storages that lie
on the card: weights, arenas, and what computing makes. Attention takes what it is given and gives, and a float32 a row,
as all tiled kernels do. Not counted is what libraries take for themselves; `WORKSPACE` bytes are kept free for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from pipelines.runtime.components import PartKey
from pipelines.runtime.compute import Compute
from pipelines.runtime.engine import Engine
from pipelines.runtime.placement import RESERVE, TILE, Placement, Stage, stage_of
from pipelines.runtime.placement_words import words
from pipelines.spec.errors import EngineError
from pipelines.spec.events import Event, ImageSaved, StageChanged
from pipelines.spec.job import Job
from pipelines.spec.measured import Measured
from pipelines.spec.options import EngineOptions
from tests.benchmarks.truesize.weightless import weightless
from tests.runtime.fake_card import FakeCard, Memory, counting, counting_weights

MIB, GIB = 2**20, 2**30
WORKSPACE = (
    128 * MIB
)  # cuBLAS takes 8 to 32 MiB, cuDNN what its plan wants, and a plan with less where there is less
ROOMY = 2**40
RAM = 64 * 10**9


class StagedMemory(Memory):
    """The most that lay on the card in each stage."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.stage = Stage.DENOISE
        self.peaks: dict[Stage, int] = {}

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        found = super().take(tensor)
        self.peaks[self.stage] = max(self.peaks.get(self.stage, 0), self.used)
        return found


@dataclass
class Counted:
    """`placements` in the order in which they were tried; `seen` what computing took in each stage of a plain job.

    `peaks` by stage, of all that lay on the card; `notes` what had to be done otherwise.
    """

    placements: list[Placement] = field(default_factory=list)
    peaks: Mapping[Stage, int] = field(default_factory=dict)
    seen: tuple[Measured, ...] = ()
    notes: list[str] = field(default_factory=list)
    error: str = ""
    pictures: int = 0

    @property
    def through(self) -> bool:
        """At the first try, as it was planned."""
        return self.pictures > 0 and len(self.placements) == 1 and not self.notes

    @property
    def predicted(self) -> Mapping[Stage, int]:
        return self.placements[-1].peaks

    @property
    def plan(self) -> str:
        return words(self.placements[-1])


def counted(job: Job, vram_gib: float, out: str, dtype: str = "float16", tiled: bool = False) -> Counted:
    """`vram_gib` 0: a card that has room for all. `out` is where pictures go, `dtype` what the card computes in.

    `tiled`: the picture is decoded in tiles, whatever the plan says.
    """
    limit = int(vram_gib * GIB) - RESERVE if vram_gib else ROOMY
    options = EngineOptions(output_dir=out, device="cpu", dtype=dtype, preview_interval_s=0)
    told, memory = Counted(), StagedMemory(limit - WORKSPACE)
    card = FakeCard(limit)
    card.memory = card.mover_._memory = memory
    card.free = lambda: limit - memory.used
    with pytest.MonkeyPatch.context() as patches, weightless(patches), counting(memory, patches):
        compute = Compute(options, card)
        patches.setattr(compute, "load_all", counting_weights(compute, card))
        plan, settle = compute.plan, compute.settle
        budget = compute.occupancy.budget
        patches.setattr(compute.occupancy, "budget", lambda: replace(budget(), ram=RAM))
        if tiled:
            patches.setattr(compute, "plan", lambda job: replace(plan(job), tile=TILE))

        def settled(job: Job, placement: Placement) -> None:
            told.placements.append(placement)
            settle(job, placement)

        def emit(event: Event) -> None:
            if isinstance(event, StageChanged):
                memory.stage = stage_of(event.stage)
                told.notes += [event.note] if event.note else []
            told.pictures += isinstance(event, ImageSaved)

        patches.setattr(compute, "settle", settled)
        patches.setattr(compute.store, "get", _counting_beside(compute, job, memory))
        engine = Engine(compute, options)
        try:
            engine.run(job, emit)
        except EngineError as error:
            told.error = str(error)
        told.peaks, told.seen = dict(memory.peaks), compute._usage.seen
        engine.close()
    return told


def _counting_beside(compute: Compute, job: Job, memory: Memory) -> Callable[..., Any]:
    """What a job adds to its model lies on the card from when it is read: ControlNets and LoRAs."""
    get, beside = compute.store.get, {record.path for record in job.parts.values()}

    def getting(key: PartKey, load: Callable[[], Any], kind: str = "") -> Any:
        known = key in compute.store
        part = get(key, load, kind)
        if key.folder in beside and not known:
            for tensor in part.parameters() if isinstance(part, torch.nn.Module) else _leaves(part):
                memory.take(tensor)
        return part

    return getting


def _leaves(values: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    for value in values.values():
        if isinstance(value, torch.Tensor):
            yield value
        else:
            yield from _leaves(value)
