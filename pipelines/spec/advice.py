"""What of a request will run and yet not do what it seems to: settings without effect, too few steps."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.spec.errors import RequestError
from pipelines.spec.families.base import Family, Feature
from pipelines.spec.problem import Problem
from pipelines.spec.request import GenerationRequest
from pipelines.spec.schedulers import scheduler_by_id


def advice(request: GenerationRequest, family: Family | None) -> tuple[Problem, ...]:
    """As `problems` answers, but nothing of it keeps the request from running."""
    return tuple(_advice(request, family)) if family else ()


def _advice(request: GenerationRequest, family: Family) -> Iterator[Problem]:
    yield from _negative(request, family)
    yield from _steps(request)


def _negative(request: GenerationRequest, family: Family) -> Iterator[Problem]:
    """Without classifier-free guidance the pipelines do not even read it."""
    written = request.prompt.negative.strip() and Feature.NEGATIVE_PROMPT in family.supports
    if written and family.cfg_scale(request) <= 1:
        name = "true CFG" if Feature.TRUE_CFG in family.supports else "guidance"
        text = f"The negative prompt does nothing while {name} is 1 or less."
        yield Problem("prompt.negative", text, f"Set {name} above 1 to use it.", stops=False)


def _steps(request: GenerationRequest) -> Iterator[Problem]:
    try:
        row = scheduler_by_id(request.sampling.scheduler)
    except RequestError:
        return
    if row.min_steps <= request.sampling.num_inference_steps < row.good_steps:
        text = f"{row.name} often draws unfinished pictures in fewer than {row.good_steps} steps."
        yield Problem("sampling.num_inference_steps", text, stops=False)
