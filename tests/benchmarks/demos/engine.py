"""Pictures of requests by the real engine, for measures that add something to a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.runtime.engine import Engine, build
from pipelines.spec.adding import added
from pipelines.spec.errors import ModelError
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Size

Records = Mapping[str, ModelRecord]


def request_of(record: ModelRecord, text: str, seed: int) -> GenerationRequest:
    """With the model's own settings and size."""
    family = by_id(record.family)
    sampling = record.sampling or family.sampling
    side = record.native_size or family.sizes.native
    return GenerationRequest(
        model=record.id,
        prompt=Prompt(text=text),
        sampling=replace(sampling, seed=seed),
        size=Size(width=side, height=side),
    )


def draw(
    requests: Iterable[GenerationRequest], records: Records, out: Path, device: str = "cpu"
) -> Iterator[np.ndarray]:
    """uint8 [h, w, 3] of each request. Raises ModelError for a part that cannot be used."""
    engine = build(EngineOptions(output_dir=str(out), device=device, preview_interval_s=0))
    try:
        for number, request in enumerate(requests):
            for part in added(request, records).values():
                if part.problem:
                    raise ModelError(f"{part.id}: {part.problem}")
            yield _picture(engine, _job(number, request, records))
    finally:
        engine.close()


def _job(number: int, request: GenerationRequest, records: Records) -> Job:
    refiner = records[request.refiner.model] if request.refiner else None
    return Job(
        id=number, request=request, model=records[request.model], refiner=refiner,
        parts=added(request, records),
    )  # fmt: skip


def _picture(engine: Engine, job: Job) -> np.ndarray:
    saved: list[str] = []
    engine.run(job, lambda event: saved.append(event.path) if isinstance(event, ImageSaved) else None)
    with Image.open(saved[0]) as picture:
        return np.asarray(picture.convert("RGB"))
