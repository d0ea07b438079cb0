"""The table of samplers by their A1111 names; a new one is one row (diffusers: schedulers/overview)."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.spec.errors import RequestError, shortened
from pipelines.spec.families.base import Prediction

FIELD = "sampling.scheduler"
MAX_STEPS = 150
AUTOMATIC, BETA, SGM_UNIFORM = "Automatic", "Beta", "SGM Uniform"

_CURVES = ("Karras", "Exponential", BETA)
_ALL = (AUTOMATIC, *_CURVES, SGM_UNIFORM)
_DIFFUSION = frozenset({Prediction.EPSILON, Prediction.V})
_ALWAYS_GOOD: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerRow:
    """One sampler with one schedule: a diffusers class, built by `from_config(config, **dict(options))`.

    `options` name everything that makes the sampler, so that nothing of it leaks in from a model's own
    scheduler config; what belongs to the model (betas, prediction_type) is left to that config.
    `min_steps` to `max_steps` is where num_inference_steps gives a picture, from `good_steps` on a finished one.
    """

    id: str
    name: str
    sampler: str
    schedule: str
    class_name: str
    options: tuple[tuple[str, object], ...] = ()
    fits: frozenset[Prediction] = _DIFFUSION
    min_steps: int = 1
    max_steps: int = MAX_STEPS
    good_steps: int = 1
    note: str = ""


def _rows(
    sampler_id: str,
    sampler: str,
    class_name: str,
    schedules: tuple[str, ...],
    *,
    spacing: str = "linspace",
    min_steps: int = 1,
    max_steps: int = MAX_STEPS,
    beta_min: int = 1,
    beta_max: int = MAX_STEPS,
    good_steps: Mapping[str, int] = _ALWAYS_GOOD,
    note: str = "",
    **options: object,
) -> Iterable[SchedulerRow]:
    """A row for each schedule; `spacing` is timestep_spacing but for SGM Uniform, '' where there is none."""
    for schedule in schedules:
        plain = schedule == AUTOMATIC
        yield SchedulerRow(
            id=sampler_id if plain else f"{sampler_id}_{schedule.lower().replace(' ', '_')}",
            name=sampler if plain else f"{sampler} {schedule}",
            sampler=sampler,
            schedule=schedule,
            class_name=class_name,
            options=(*options.items(), *_schedule_options(schedule, schedules, spacing)),
            min_steps=_least(schedule, min_steps, beta_min),
            max_steps=beta_max if schedule == BETA else max_steps,
            good_steps=good_steps.get(schedule, 1),
            note=note,
        )


def _least(schedule: str, min_steps: int, beta_min: int) -> int:
    if schedule == BETA:
        return max(min_steps, beta_min)
    return 1 if schedule == SGM_UNIFORM else min_steps


def _schedule_options(
    schedule: str, schedules: tuple[str, ...], spacing: str
) -> Iterable[tuple[str, object]]:
    if spacing:
        yield "timestep_spacing", "trailing" if schedule == SGM_UNIFORM else spacing
    for curve in _CURVES:
        if curve in schedules:
            yield f"use_{curve.lower()}_sigmas", curve == schedule


_MULTISTEP = "DPMSolverMultistepScheduler"
# Whole-number timesteps: from 92 steps on Beta's first two are the same, and the class loses its place.
_BETA_MAX = 91
_SOLVER: dict[str, Any] = {
    "beta_max": _BETA_MAX,
    "solver_order": 2,
    "lower_order_final": True,
    "final_sigmas_type": "zero",
}
_DPM: dict[str, Any] = {**_SOLVER, "solver_type": "midpoint", "use_flow_sigmas": False}
_DISTILLED = "Made for models distilled for it; 4 to 8 steps and guidance 1 to 2."
_LEADING: dict[str, Any] = {"spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False}

SCHEDULERS: tuple[SchedulerRow, ...] = (
    *_rows("euler", "Euler", "EulerDiscreteScheduler", _ALL, min_steps=2, final_sigmas_type="zero"),
    *_rows("euler_a", "Euler a", "EulerAncestralDiscreteScheduler", (AUTOMATIC, SGM_UNIFORM), min_steps=2),
    *_rows("dpmpp_2m", "DPM++ 2M", _MULTISTEP, _ALL, algorithm_type="dpmsolver++", **_DPM),
    *_rows("dpmpp_2m_sde", "DPM++ 2M SDE", _MULTISTEP, _ALL, algorithm_type="sde-dpmsolver++", **_DPM),
    *_rows(
        "dpmpp_sde",
        "DPM++ SDE",
        "DPMSolverSinglestepScheduler",
        (AUTOMATIC, *_CURVES),
        spacing="",
        algorithm_type="sde-dpmsolver++",
        note="Close to A1111's DPM++ SDE, not the same: it calls the model once a step, not twice.",
        **_DPM,
    ),
    *_rows("heun", "Heun", "HeunDiscreteScheduler", _ALL, min_steps=3, clip_sample=False),
    *_rows("lms", "LMS", "LMSDiscreteScheduler", _ALL, min_steps=2),
    *_rows("dpm2", "DPM2", "KDPM2DiscreteScheduler", _ALL, min_steps=3),
    *_rows(
        "dpm2_a",
        "DPM2 a",
        "KDPM2AncestralDiscreteScheduler",
        _ALL,
        min_steps=3,
        good_steps={AUTOMATIC: 20, "Karras": 20, SGM_UNIFORM: 15},
    ),
    *_rows(
        "unipc",
        "UniPC",
        "UniPCMultistepScheduler",
        _ALL,
        solver_type="bh2",
        predict_x0=True,
        use_flow_sigmas=False,
        **_SOLVER,
    ),
    *_rows(
        "ddim",
        "DDIM",
        "DDIMScheduler",
        (AUTOMATIC, SGM_UNIFORM),
        min_steps=2,
        clip_sample=False,
        **_LEADING,
    ),
    *_rows(
        "pndm",
        "PNDM",
        "PNDMScheduler",
        (AUTOMATIC,),
        min_steps=3,
        good_steps={AUTOMATIC: 20},
        skip_prk_steps=True,
        note="A1111 calls it PLMS.",
        **_LEADING,
    ),
    *_rows(
        "deis",
        "DEIS",
        "DEISMultistepScheduler",
        _ALL,
        min_steps=2,
        beta_min=4,
        beta_max=_BETA_MAX,
        algorithm_type="deis",
        solver_type="logrho",
        solver_order=2,
        lower_order_final=True,
        use_flow_sigmas=False,
    ),
    *_rows(
        "lcm",
        "LCM",
        "LCMScheduler",
        (AUTOMATIC,),
        spacing="leading",
        max_steps=50,
        clip_sample=False,
        original_inference_steps=50,
        note=_DISTILLED,
    ),
    *_rows(
        "tcd",
        "TCD",
        "TCDScheduler",
        (AUTOMATIC,),
        spacing="leading",
        max_steps=50,
        clip_sample=False,
        original_inference_steps=50,
        note=_DISTILLED,
    ),
    SchedulerRow(
        id="flow_euler",
        name="Flow Euler",
        sampler="Flow Euler",
        schedule=AUTOMATIC,
        class_name="FlowMatchEulerDiscreteScheduler",
        options=(("stochastic_sampling", False),),  # its noise is drawn without the seed's generator
        fits=frozenset({Prediction.FLOW}),
        note="For models that predict a flow, such as FLUX; the model itself sets the shift of the schedule.",
    ),
)

_BY_ID = {row.id: row for row in SCHEDULERS}


def scheduler_by_id(scheduler_id: str) -> SchedulerRow:
    """Raises RequestError, field `sampling.scheduler`, with the nearest ids."""
    if row := _BY_ID.get(scheduler_id):
        return row
    name = shortened(scheduler_id)
    raise RequestError(FIELD, f"there is no sampler '{name}'.", _nearest(name, list(_BY_ID)))


def steps_problem(row: SchedulerRow, steps: int) -> str:
    """Why this sampler cannot draw in so many steps, as a sentence; empty when it can."""
    if steps < row.min_steps:
        return f"{row.name} needs at least {row.min_steps} steps, not {steps}."
    if steps > row.max_steps:
        return f"{row.name} takes at most {row.max_steps} steps, not {steps}."
    # diffusers counts down from 1000 by 1000 / steps; where rounding gives one value too many, it ends at -1.
    if row.schedule == SGM_UNIFORM and math.ceil(1000 / (1000 / steps)) > steps:
        return f"The schedule {SGM_UNIFORM} cannot be cut into {steps} steps."
    return ""


def fitting(prediction: Prediction) -> tuple[SchedulerRow, ...]:
    """The rows that work with a model that predicts this, in the table's order."""
    return tuple(row for row in SCHEDULERS if prediction in row.fits)


def samplers(prediction: Prediction) -> tuple[str, ...]:
    """A1111 sampler names in the table's order, each once."""
    return tuple(dict.fromkeys(row.sampler for row in fitting(prediction)))


def schedules(sampler: str, prediction: Prediction) -> tuple[str, ...]:
    """The schedules that this sampler offers, Automatic first."""
    return tuple(row.schedule for row in fitting(prediction) if row.sampler == sampler)


# Other tools' words, after `_key`.
_SAMPLER_ALIASES = {"plms": "pndm", "eulerancestral": "eulera", "dpm2ancestral": "dpm2a"}
_SCHEDULE_ALIASES = {"": "automatic", "uniform": "automatic", "normal": "automatic", "simple": "sgmuniform"}


def find(sampler: str, schedule: str = "") -> SchedulerRow:
    """The row by A1111 names in any case, or by an id, or by a fused old name such as 'DPM++ 2M Karras'.

    A schedule that is given wins over a fused one. Raises RequestError, field `sampling.scheduler`.
    """
    known = _named(sampler)
    if not schedule.strip():
        return known
    wanted = _key(schedule)
    wanted = _SCHEDULE_ALIASES.get(wanted, wanted)
    if wanted == "automatic":
        return known
    rows = [row for row in SCHEDULERS if row.sampler == known.sampler]
    for row in rows:
        if _key(row.schedule) == wanted:
            return row
    offered = ", ".join(row.schedule for row in rows)
    raise RequestError(
        FIELD, f"{known.sampler} has no schedule '{shortened(schedule)}'.", f"It has: {offered}."
    )


def _named(sampler: str) -> SchedulerRow:
    wanted = _key(sampler)
    wanted = _SAMPLER_ALIASES.get(wanted, wanted)
    for row in SCHEDULERS:
        if wanted in (_key(row.name), _key(row.id)):
            return row
    name = shortened(sampler)
    nearest = _nearest(name, [row.name for row in SCHEDULERS])
    raise RequestError(FIELD, f"there is no sampler '{name}'.", nearest)


def _key(name: str) -> str:
    """'DPM++ 2M Karras' and 'dpmpp_2m_karras' are the same name."""
    return re.sub(r"[\s_\-]+", "", name.lower()).replace("++", "pp")


def _nearest(wanted: str, names: list[str]) -> str:
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(wanted.lower(), by_lower, n=3, cutoff=0.5)
    shown = [by_lower[name] for name in close] or names[:3]
    return f"Did you mean {' or '.join(shown)}?"
