"""Whether a job fits, before anything is loaded: its placement by the headers of its files. Imports no torch."""

from __future__ import annotations

from pipelines.library.weights import sizes_of
from pipelines.runtime.activations import FLUX, UNET
from pipelines.runtime.placement import Budget, Placement, plan
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.sizes import Shape

_BESIDE = (Kind.LORA, Kind.CONTROLNET, Kind.IP_ADAPTER)
_BF16 = ("bfloat16", "bf16")
_LARGE = 0.75  # of free RAM: a model that takes more in float32 computes from 16 bits (device.py)


def preflight(job: Job, budget: Budget) -> Placement:
    """Raises ModelError for files that are gone or damaged."""
    family, records = by_id(job.model.family), [job.model, *([job.refiner] if job.refiner else [])]
    stored = 2 if budget.device or _is_large(job.model, budget.ram) else 4
    half = "bfloat16" if {job.model.dtype, family.half} & {*_BF16} else "float16"
    upcast = budget.device and family.latent.upcast and half == "float16"
    added = [record for record in job.parts.values() if record.kind in _BESIDE]
    sizes = sizes_of(records, added, stored, upcast, job.request.weights)
    activations = FLUX if family.latent.patch > 1 else UNET
    return plan(sizes, budget, _shape(job, family, 2 if budget.device else 4, upcast), activations)


def _shape(job: Job, family: Family, itemsize: int, upcast: bool) -> Shape:
    return Shape(
        width=job.request.size.width,
        height=job.request.size.height,
        branches=2 if family.cfg_scale(job.request) > 1 else 1,
        tokens=family.max_sequence_length,
        itemsize=itemsize,
        vae_itemsize=4 if upcast else itemsize,
    )


def _is_large(record: ModelRecord, ram: int) -> bool:
    return record.dtype != "float32" and 2 * record.size_bytes > _LARGE * ram
