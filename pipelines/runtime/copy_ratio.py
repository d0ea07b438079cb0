"""How long it takes to copy a denoiser to the device, in its own steps: what residency.py weighs. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.measured import Rates
from pipelines.spec.run_time import Run, evaluation_s, work_of
from pipelines.spec.sizes import Shape

UNKNOWN = 1.0
_REACHED = (
    0.6  # of the rate of large matrix products: 0.7 to 0.8 on consumer cards, 0.3 to 0.4 on the fastest
)
_STEPS = 4  # to a factor of two: a plan is the same from one picture to the next, though none takes as long
_MOST = 64.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the device that draws: its name, its `rates`, and the `runs` of all devices."""

    device: str = ""
    rates: Rates | None = None
    runs: tuple[Run, ...] = ()


def copy_ratio(job: Job, family: Family, size_bytes: int, shape: Shape, known: Known) -> float:
    """The time to copy `size_bytes` over that of a step; `UNKNOWN` where either was never measured.

    A step is as long as with earlier pictures that had all of the model on the card, else as its FLOPs take.
    """
    if known.rates is None or not size_bytes:
        return UNKNOWN
    step_s = evaluation_s(work_of(job.request, family), known.runs, known.device)
    step_s = _by_flops(family, shape, known.rates) if step_s is None else step_s
    return _rounded(size_bytes / known.rates.copied / step_s) if step_s else UNKNOWN


def _by_flops(family: Family, shape: Shape, rates: Rates) -> float:
    """0 where it can't be said. Work grows with the pixels, as run_time.py has it."""
    larger = shape.width * shape.height / family.sizes.native**2
    return shape.branches * larger * family.work / (rates.flops * _REACHED) if rates.flops else 0.0


def _rounded(ratio: float) -> float:
    within = min(max(ratio, 1 / _MOST), _MOST)
    return 2 ** (round(_STEPS * math.log2(within)) / _STEPS)
