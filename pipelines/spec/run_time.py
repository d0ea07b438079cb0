"""How long a picture will take, from how long earlier ones took on the same device. Pure.

The model: one evaluation of the denoiser takes a + b × cells seconds (8 × 8 pixels each), decoding c + d × cells, and
saving the same for all; a is what a device takes to be asked at all. Pictures of this size are believed first, then a
line through the two nearest sizes. Of one size alone a and c are not known, and time is taken to grow with the cells,
as the FLOPs of SD 1.5, SDXL and FLUX do within 25 % from 512 to 1024 pixels a side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.spec.families.base import Family
from pipelines.spec.request import GenerationRequest
from pipelines.spec.schedulers import scheduler_by_id
from pipelines.spec.speed import way as way_of_speed

NEWEST = 20  # pictures that are looked at: a driver, a clock or a room gets warmer with the months
ANOTHER_SIZE = 0.15  # of the time: how far the model may be off where two other sizes were drawn
ONE_SIZE = 0.3  # and where only one was
ANOTHER_MODEL = 0.10
_TWICE = ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a picture asks for: `evaluations` of the denoiser, each of `branches` pictures (2 with a negative prompt).

    `way` names what else makes it slower or quicker, '' for the model alone; it is never scaled.
    """

    model: str
    family: str
    width: int
    height: int
    evaluations: int
    branches: int = 1
    way: str = ""

    @property
    def cells(self) -> float:
        return self.width * self.height / 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A picture that was drawn; times in seconds, `when` since 1970, `predicted_s` 0 where nothing was predicted."""

    device: str
    work: Work
    denoise_s: float
    decode_s: float
    seconds: float
    predicted_s: float = 0.0
    when: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeEstimate:
    """`spread_s`: two of three pictures are within it, None after a single one. `pictures` stand behind it.

    `last_s` and `last_predicted_s` are of the newest picture that had been predicted, 0 where there was none.
    """

    seconds: float
    spread_s: float | None
    pictures: int
    device: str
    last_s: float = 0.0
    last_predicted_s: float = 0.0


def work_of(request: GenerationRequest, family: Family, pace: str = "") -> Work:
    """`pace` as in `Placement`. Raises RequestError for a sampler that is not in the table."""
    steps = request.sampling.num_inference_steps
    if scheduler_by_id(request.sampling.scheduler).class_name in _TWICE:
        steps = 2 * steps - 1
    if request.image is not None:
        steps = max(1, round(steps * request.image.strength))
    return Work(
        model=request.model,
        family=family.id,
        width=request.size.width,
        height=request.size.height,
        evaluations=steps,
        branches=2 if family.cfg_scale(request) > 1 else 1,
        way=" ".join(part for part in (_way(request), pace) if part),
    )


def _way(request: GenerationRequest) -> str:
    refiner = request.refiner
    counts = (("lora", request.loras), ("control", request.controls), ("ip", request.ip_adapters))
    parts = [f"{name}={len(given)}" for name, given in counts if given]
    parts += [f"refiner={refiner.model}@{refiner.switch_at:g}"] if refiner else []
    parts += [request.weights] if request.weights else []  # to widen them takes time in each step
    parts += way_of_speed(request)
    return " ".join(parts)


def estimate(work: Work, runs: Iterable[Run], device: str) -> TimeEstimate | None:
    """None before the first picture of this family on this device. `runs` in any order, also of other devices."""
    alike = _alike(work, runs, device)
    same = [run for run in alike if run.work.model == work.model][:NEWEST]
    used = same or alike[:NEWEST]
    if not used:
        return None
    seconds = _predicted(work, used)
    spread = _spread(work, used, 0.0 if same else ANOTHER_MODEL)
    last = next((run for run in same if run.predicted_s), None)
    return TimeEstimate(
        seconds=seconds, spread_s=None if spread is None else spread * seconds, pictures=len(used), device=device,
        last_s=last.seconds if last else 0.0, last_predicted_s=last.predicted_s if last else 0.0,
    )  # fmt: skip


def evaluation_s(work: Work, runs: Iterable[Run], device: str) -> float | None:
    """Seconds of one evaluation of the denoiser, by what `estimate` looks at; None where that is nothing."""
    alike = _alike(work, runs, device)
    used = ([run for run in alike if run.work.model == work.model] or alike)[:NEWEST]
    return _step_at(work, used) if used else None


def _alike(work: Work, runs: Iterable[Run], device: str) -> list[Run]:
    """The newest first."""
    alike = [r for r in runs if (r.device, r.work.family, r.work.way) == (device, work.family, work.way)]
    alike = [run for run in alike if run.denoise_s > 0 and run.work.cells > 0 and run.work.evaluations > 0]
    return sorted(alike, key=lambda run: -run.when)


def _predicted(work: Work, runs: Sequence[Run]) -> float:
    runs = _as_often(work, runs)
    decode = {cells: _median(run.decode_s for run in of) for cells, of in _by_size(runs).items()}
    rest = _median(max(0.0, run.seconds - run.denoise_s - run.decode_s) for run in runs)
    return work.evaluations * _step_at(work, runs) + _at(work.cells, decode) + rest


def _median(values: Iterable[float]) -> float:
    from statistics import median  # brings fractions and decimal, which the first paint can do without

    return median(values)


def _step_at(work: Work, runs: Sequence[Run]) -> float:
    sizes = _by_size(_as_often(work, runs))
    step = {cells: _median(_step_s(run, work.branches) for run in of) for cells, of in sizes.items()}
    return _at(work.cells, step)


def _as_often(work: Work, runs: Sequence[Run]) -> Sequence[Run]:
    """Those whose denoiser was asked for as many branches; all where there is none."""
    return [run for run in runs if run.work.branches == work.branches] or runs


def _by_size(runs: Sequence[Run]) -> Mapping[float, list[Run]]:
    sizes = dict[float, list[Run]]()
    for run in runs:
        sizes.setdefault(run.work.cells, []).append(run)
    return sizes


def _step_s(run: Run, branches: int) -> float:
    return run.denoise_s / run.work.evaluations * branches / run.work.branches


def _at(cells: float, known: Mapping[float, float]) -> float:
    """The value there, of those `known` by their cells; never less than constant nor more than proportional."""
    first, *others = sorted(known, key=lambda each: abs(math.log(each / cells)))
    grown = known[first] * cells / first
    if first == cells or not others:
        return grown
    other = others[0]
    value = known[first] + (known[other] - known[first]) * (cells - first) / (other - first)
    return min(max(value, min(known[first], grown)), max(known[first], grown))


def _spread(work: Work, runs: Sequence[Run], more: float) -> float | None:
    """Of the time, by what each picture differed from what the others would have said of it."""
    if len(runs) < 2:
        return None
    errors = [_error(run, [other for other in runs if other is not run]) for run in runs]
    seen = sorted(errors)[min(len(errors) - 1, math.ceil(len(errors) * 2 / 3) - 1)]
    sizes = {run.work.cells for run in runs}
    if work.cells not in sizes:
        seen = max(seen, ONE_SIZE if len(sizes) == 1 else ANOTHER_SIZE)
    return max(seen, more, 0.01)


def _error(run: Run, others: Sequence[Run]) -> float:
    return abs(run.seconds / _predicted(run.work, others) - 1)
