"""Whether a job fits, before anything is loaded: its placement by the headers of its files. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from pipelines.library import weights
from pipelines.runtime.activations import FLUX, SDXL, UNET, Linear
from pipelines.runtime.copy_ratio import Known, copy_ratio
from pipelines.runtime.fitted import Fitted
from pipelines.runtime.placement import Budget, Placement, plan
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family, TextScheme
from pipelines.spec.job import Job
from pipelines.spec.measured import Measured
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.sizes import Shape, Sizes

_BESIDE = (Kind.LORA, Kind.CONTROLNET, Kind.IP_ADAPTER)
_BF16 = ("bfloat16", "bf16")
NOTHING = Known()
_LARGE = 0.75  # of free RAM: a model that takes more in float32 computes from 16 bits (device.py)


SizesOf = Callable[[Iterable[ModelRecord], Iterable[ModelRecord], int, bool, str], Sizes]


def preflight(
    job: Job,
    budget: Budget,
    dtype: str = "auto",
    seen: Iterable[Measured] = (),
    sizes_of: SizesOf = weights.sizes_of,
    known: Known = NOTHING,
) -> Placement:
    """`dtype` as in `EngineOptions`, `seen` what was measured on this device; `sizes_of` may remember headers.

    `known` tells how quick the device is, for the `copy_ratio` of the budget.

    Raises ModelError for files that are gone or damaged.
    """
    family, records = by_id(job.model.family), [job.model, *([job.refiner] if job.refiner else [])]
    stored = _stored(job.model, budget, dtype)
    half = "bfloat16" if {job.model.dtype, family.half} & {*_BF16} else "float16"
    upcast = budget.device and dtype != "float32" and family.latent.upcast and half == "float16"
    added = [record for record in job.parts.values() if record.kind in _BESIDE]
    sizes = sizes_of(records, added, stored, upcast, job.request.weights)
    shape = _shape(job, family, 2 if budget.device and dtype != "float32" else 4, upcast)
    if stored < shape.itemsize:  # each layer is widened while it runs, and changed by LoRAs then
        sizes = replace(sizes, merged=0, merged_text=0)
    own = tuple(each for each in seen if each.family == family.id)
    if budget.device:
        ratio = copy_ratio(job, family, sizes.denoisers[0].size_bytes, shape, known)
        budget = replace(budget, copy_ratio=ratio)
        # The processor computes in 32 bits what is not asked for otherwise.
        wide = dtype == "auto" and stored == 2 and not _is_large(job.model, budget.ram)
        sizes = replace(sizes, widened=2 if wide else 1)
    return plan(sizes, budget, shape, Fitted(base_of(family), own))


def base_of(family: Family) -> Linear:
    """The model of activations before anything was measured."""
    rows = {TextScheme.CLIP: UNET, TextScheme.CLIP_CLIP: SDXL, TextScheme.CLIP_T5: FLUX}
    return rows[family.text]


def _shape(job: Job, family: Family, itemsize: int, upcast: bool) -> Shape:
    return Shape(
        width=job.request.size.width,
        height=job.request.size.height,
        branches=2 if family.cfg_scale(job.request) > 1 else 1,
        tokens=family.max_sequence_length,
        controls=sum(1 for control in job.request.controls if control.weight),
        itemsize=itemsize,
        vae_itemsize=4 if upcast else itemsize,
    )


def _stored(record: ModelRecord, budget: Budget, dtype: str) -> int:
    """Bytes of a number of the weights."""
    if dtype != "auto":
        return 4 if dtype == "float32" else 2
    return 2 if budget.device or _is_large(record, budget.ram) else 4


def _is_large(record: ModelRecord, ram: int) -> bool:
    return record.dtype != "float32" and 2 * record.size_bytes > _LARGE * ram
