"""What is wrong with a request, before it runs. The Generate button and the engine ask the same function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipelines.spec.adding import adding_problems
from pipelines.spec.errors import RequestError, shortened
from pipelines.spec.families.base import Family, Feature, Prediction, Task
from pipelines.spec.problem import Problem, prediction_of
from pipelines.spec.record import ModelRecord
from pipelines.spec.refining import refiner_problems
from pipelines.spec.request import MAX_SEED, GenerationRequest, Size, SizeConditioning
from pipelines.spec.schedulers import MAX_STEPS, SchedulerRow, samplers, scheduler_by_id, steps_problem
from pipelines.spec.speeding import speed_problems
from pipelines.spec.weighing import weights_problems

__all__ = ["Problem", "prediction_of", "problems"]

MAX_GUIDANCE = 30.0
MAX_COUNT = 64
MAX_TOLD_SIDE = 16384  # of a size that the model is only told of


def problems(
    request: GenerationRequest,
    record: ModelRecord | None,
    family: Family | None,
    refiner: ModelRecord | None = None,
    parts: Mapping[str, ModelRecord] | None = None,
) -> tuple[Problem, ...]:
    """Everything that keeps this request from running with this model; empty when it can run. Does no I/O.

    `refiner` is the record of `request.refiner.model`, `parts` those of its LoRAs and the like, by their id.
    """
    return tuple(_problems(request, record, family, refiner, parts or {}))


def _problems(
    request: GenerationRequest,
    record: ModelRecord | None,
    family: Family | None,
    refiner: ModelRecord | None,
    parts: Mapping[str, ModelRecord],
) -> Iterator[Problem]:
    yield from _model(request, record, family)
    yield from weights_problems(request, record)
    yield from _sampling(request, record, family)
    if not 1 <= request.count <= MAX_COUNT:
        yield Problem(
            "count", f"The count of pictures must be 1 to {MAX_COUNT}, not {shortened(request.count)}."
        )
    if family:
        yield from _size(request.size, family)
        yield from _true_cfg(request)
        yield from _size_conditioning(request.size_conditioning)
        yield from refiner_problems(request, family, refiner)
        yield from _inputs(request, family)
        yield from adding_problems(request, family, parts)
        yield from speed_problems(request, record, family)


def _model(
    request: GenerationRequest, record: ModelRecord | None, family: Family | None
) -> Iterator[Problem]:
    if record is None:
        name = shortened(request.model)
        wanted = f"The model '{name}' was not found." if name else "No model is chosen."
        yield Problem("model", wanted, "Choose a model from the list.")
    elif not record.draws:
        text = f"'{record.title}' is {record.kind.named}, which draws nothing by itself."
        yield Problem("model", text, "Choose a model from the list.")
    elif record.problem:
        yield Problem("model", record.problem, "Choose another model.")
    elif family is None:
        yield Problem(
            "model", f"The model '{record.title}' is of a kind that is not supported.", "Choose another."
        )
    elif Task.TEXT not in family.pipelines:
        text = f"The model '{record.title}' cannot begin a picture: {family.name} only finishes one."
        yield Problem("model", text, "Choose another model, and this one as its refiner.")


def _sampling(
    request: GenerationRequest, record: ModelRecord | None, family: Family | None
) -> Iterator[Problem]:
    sampling = request.sampling
    try:
        row = scheduler_by_id(sampling.scheduler)
    except RequestError as error:
        yield Problem(error.field, f"There is no sampler '{shortened(sampling.scheduler)}'.", error.hint)
    else:
        yield from _scheduler(row, sampling.num_inference_steps, record, family)
    if not 1 <= sampling.num_inference_steps <= MAX_STEPS:
        text = f"Steps must be 1 to {MAX_STEPS}, not {shortened(sampling.num_inference_steps)}."
        yield Problem("sampling.num_inference_steps", text)
    if not 0 <= sampling.guidance_scale <= MAX_GUIDANCE:  # also true for NaN
        text = f"Guidance must be 0 to {MAX_GUIDANCE:g}, not {sampling.guidance_scale:g}."
        yield Problem("sampling.guidance_scale", text)
    yield from _seed(sampling.seed, request.count)


def _scheduler(
    row: SchedulerRow, steps: int, record: ModelRecord | None, family: Family | None
) -> Iterator[Problem]:
    if family and (prediction := prediction_of(record, family)) not in row.fits:
        offered = ", ".join(samplers(prediction)[:5])
        reason = f"The sampler {row.name} does not fit {family.name}: {_PREDICTS[prediction]}."
        yield Problem("sampling.scheduler", reason, f"Choose one that does, such as {offered}.")
    if 1 <= steps <= MAX_STEPS and (text := steps_problem(row, steps)):
        yield Problem("sampling.num_inference_steps", text, "Change the steps, or choose another sampler.")


_PREDICTS = {
    Prediction.EPSILON: "the model predicts noise, and this sampler needs a flow",
    Prediction.V: "the model predicts a velocity of the noise (v), and this sampler needs a flow",
    Prediction.FLOW: "the model predicts a flow, and this sampler needs noise",
}


def _seed(seed: int, count: int) -> Iterator[Problem]:
    if not 0 <= seed <= MAX_SEED:
        yield Problem("sampling.seed", f"The seed must be 0 to {MAX_SEED}, not {shortened(seed)}.")
    elif 1 <= count <= MAX_COUNT and seed + count - 1 > MAX_SEED:
        text = f"The seeds count up, and the last of {count} pictures would pass {MAX_SEED}."
        yield Problem("sampling.seed", text, f"At most {MAX_SEED - count + 1} for this count.")


def _size(size: Size, family: Family) -> Iterator[Problem]:
    rule = family.sizes
    for field, name, side in (("size.width", "width", size.width), ("size.height", "height", size.height)):
        if not rule.minimum <= side <= rule.maximum:
            yield Problem(
                field, f"The {name} must be {rule.minimum} to {rule.maximum} pixels, not {shortened(side)}."
            )
        elif side % rule.step:
            below = side - side % rule.step
            hint = f"The nearest are {below} and {below + rule.step}."
            yield Problem(field, f"The {name} must be a multiple of {rule.step} pixels, not {side}.", hint)


def _true_cfg(request: GenerationRequest) -> Iterator[Problem]:
    if not 1 <= request.true_cfg_scale <= MAX_GUIDANCE:  # also true for NaN
        text = f"True CFG must be 1 (off) to {MAX_GUIDANCE:g}, not {request.true_cfg_scale:g}."
        yield Problem("true_cfg_scale", text)


def _size_conditioning(told: SizeConditioning) -> Iterator[Problem]:
    sides = [
        (f"{name}.{side}", getattr(size, side), 1)
        for name, size in (("original", told.original), ("target", told.target))
        for side in ("width", "height")
        if size
    ]
    crops = [("crop_left", told.crop_left, 0), ("crop_top", told.crop_top, 0)]
    for name, value, least in (*sides, *crops):
        if not least <= value <= MAX_TOLD_SIDE:
            text = f"The {name.replace('_', ' ').replace('.', ' ')} must be {least} to {MAX_TOLD_SIDE}, not {value}."
            yield Problem(f"size_conditioning.{name}", text)


def _inputs(request: GenerationRequest, family: Family) -> Iterator[Problem]:
    """Inputs that the family cannot use are refused, so that a picture never silently lacks one."""
    told = request.size_conditioning != SizeConditioning()
    rows = (
        ("true_cfg_scale", Feature.TRUE_CFG, "use true CFG", request.true_cfg_scale != 1),
        ("size_conditioning", Feature.SIZE_CONDITIONING, "be told of sizes and crops", told),
        ("image", Feature.IMAGE, "start from a picture", request.image is not None),
        ("controls", Feature.CONTROL, "be steered by a control picture", bool(request.controls)),
        ("loras", Feature.LORA, "use a LoRA", bool(request.loras)),
        ("embeddings", Feature.EMBEDDING, "use an embedding", bool(request.embeddings)),
        ("ip_adapters", Feature.IP_ADAPTER, "read a picture prompt (IP-Adapter)", bool(request.ip_adapters)),
    )
    for field, feature, what, wanted in rows:
        if wanted and feature not in family.supports:
            yield Problem(field, f"{family.name} cannot {what} here yet.", "Remove it from the request.")
