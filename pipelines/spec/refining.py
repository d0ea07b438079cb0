"""What is wrong with the refiner of a request."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.spec import families
from pipelines.spec.errors import ModelError, RequestError
from pipelines.spec.families.base import Family, Feature, Task
from pipelines.spec.problem import Problem, prediction_of
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Refiner
from pipelines.spec.schedulers import MAX_STEPS, SchedulerRow, scheduler_by_id, steps_problem

MAX_SCORE = 10.0
_OTHER = "Choose another refiner, or none."


def refiner_problems(
    request: GenerationRequest, family: Family, record: ModelRecord | None
) -> Iterator[Problem]:
    """`family` is the base model's, `record` the refiner's."""
    if request.refiner is None:
        return
    if Feature.REFINER not in family.supports:
        text = f"{family.name} has no use for a refiner."
        yield Problem("refiner", text, "Remove it from the request.")
        return
    row = _row(request)
    yield from _model(request.refiner, family, record, row)
    yield from _numbers(request.refiner, row)


def refiner_family(record: ModelRecord, family: Family) -> Family | None:
    """The family of a refiner that can finish this family's latents, None for a model that can't."""
    try:
        own = families.by_id(record.family)
    except ModelError:
        return None
    fits = Task.REFINE in own.pipelines and own.latent.space == family.latent.space
    return own if fits else None


def _row(request: GenerationRequest) -> SchedulerRow | None:
    try:
        return scheduler_by_id(request.sampling.scheduler)
    except RequestError:
        return None  # told of by the base's own check


def _model(
    refiner: Refiner, family: Family, record: ModelRecord | None, row: SchedulerRow | None
) -> Iterator[Problem]:
    field = "refiner.model"
    if record is None:
        yield Problem(field, f"The refiner '{refiner.model}' was not found.", _OTHER)
    elif not record.draws:
        yield Problem(field, f"'{record.title}' is {record.kind.named}, not a model.", _OTHER)
    elif record.problem:
        yield Problem(field, record.problem, _OTHER)
    elif (own := refiner_family(record, family)) is None:
        yield Problem(field, f"The model '{record.title}' cannot finish pictures of {family.name}.", _OTHER)
    elif row and prediction_of(record, own) not in row.fits:
        yield Problem(field, f"The sampler {row.name} does not fit the refiner '{record.title}'.", _OTHER)


def _numbers(refiner: Refiner, row: SchedulerRow | None) -> Iterator[Problem]:
    if not 0 <= refiner.switch_at <= 1:  # also true for NaN
        text = f"The switch to the refiner must be at 0 to 1 of the steps, not {refiner.switch_at:g}."
        yield Problem("refiner.switch_at", text)
    steps = refiner.num_inference_steps
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        text = f"Steps of the refiner must be 1 to {MAX_STEPS}, not {steps}."
        yield Problem("refiner.num_inference_steps", text)
    elif steps is not None and row and (text := steps_problem(row, steps)):
        yield Problem("refiner.num_inference_steps", text, "Change the steps, or choose another sampler.")
    scores = (
        ("aesthetic_score", "aesthetic score"),
        ("negative_aesthetic_score", "negative aesthetic score"),
    )
    for name, words in scores:
        if not 0 <= (score := getattr(refiner, name)) <= MAX_SCORE:
            yield Problem(f"refiner.{name}", f"The {words} must be 0 to {MAX_SCORE:g}, not {score:g}.")
