import dataclasses

import pytest

from pipelines.spec.families.base import Family, Feature, Prediction
from pipelines.spec.families.sd1 import SD1
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import (
    MAX_SEED,
    ControlInput,
    GenerationRequest,
    ImageInput,
    LoraInput,
    Sampling,
    Size,
)
from pipelines.spec.validate import prediction_of, problems

RECORD = ModelRecord(id="m", path="/m", title="M", family="sd1")
GOOD = GenerationRequest(model="m")
FLOW = dataclasses.replace(SD1, id="flow", name="Flow family", prediction=Prediction.FLOW)


def fields(
    request: GenerationRequest, record: ModelRecord | None = RECORD, family: Family | None = SD1
) -> list[str]:
    return [problem.field for problem in problems(request, record, family)]


def sampling(**changes):
    return dataclasses.replace(GOOD, sampling=Sampling(**changes))


def test_a_good_request_has_no_problem():
    assert problems(GOOD, RECORD, SD1) == ()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (sampling(num_inference_steps=0), "sampling.num_inference_steps"),
        (sampling(num_inference_steps=151), "sampling.num_inference_steps"),
        (sampling(num_inference_steps=1), "sampling.num_inference_steps"),
        (sampling(guidance_scale=-0.1), "sampling.guidance_scale"),
        (sampling(guidance_scale=30.1), "sampling.guidance_scale"),
        (sampling(guidance_scale=float("nan")), "sampling.guidance_scale"),
        (sampling(seed=-1), "sampling.seed"),
        (sampling(seed=MAX_SEED + 1), "sampling.seed"),
        (sampling(scheduler="nope"), "sampling.scheduler"),
        (sampling(scheduler="flow_euler"), "sampling.scheduler"),
        (dataclasses.replace(GOOD, size=Size(width=100, height=512)), "size.width"),
        (dataclasses.replace(GOOD, size=Size(width=512, height=8)), "size.height"),
        (dataclasses.replace(GOOD, size=Size(width=512, height=2056)), "size.height"),
        (dataclasses.replace(GOOD, count=0), "count"),
        (dataclasses.replace(GOOD, count=65), "count"),
        (dataclasses.replace(GOOD, image=ImageInput(path="/a.png")), "image"),
        (dataclasses.replace(GOOD, controls=(ControlInput(model="c", path="/a.png"),)), "controls[0].model"),
        (dataclasses.replace(GOOD, loras=(LoraInput(model="l"),)), "loras[0].model"),
    ],
    ids=str,
)
def test_one_wrong_field_is_named_alone(request_, field):
    assert fields(request_) == [field]


@pytest.mark.parametrize(
    "request_",
    [
        sampling(num_inference_steps=150, guidance_scale=0.0, seed=MAX_SEED),
        sampling(num_inference_steps=2, guidance_scale=30.0, seed=0),
        dataclasses.replace(GOOD, size=Size(width=64, height=2048), count=64),
    ],
    ids=str,
)
def test_the_limits_themselves_are_allowed(request_):
    assert fields(request_) == []


def test_the_seed_of_the_last_picture_counts_too():
    last = MAX_SEED - 3
    assert fields(dataclasses.replace(sampling(seed=last), count=4)) == []
    assert fields(dataclasses.replace(sampling(seed=last), count=5)) == ["sampling.seed"]


def test_several_problems_are_all_told():
    request = dataclasses.replace(sampling(seed=-1), count=0, size=Size(width=1, height=1))
    assert fields(request) == ["sampling.seed", "count", "size.width", "size.height"]


def test_a_model_that_is_not_there_broken_or_of_no_family():
    assert fields(GOOD, None, None) == ["model"]
    broken = dataclasses.replace(RECORD, problem="unet is missing.")
    (problem,) = problems(GOOD, broken, SD1)
    assert (problem.field, problem.message) == ("model", "unet is missing.")
    assert fields(GOOD, RECORD, None) == ["model"]


def test_a_sampler_that_does_not_fit_is_refused_with_the_reason_and_what_fits():
    (problem,) = problems(sampling(scheduler="dpmpp_2m_karras"), RECORD, FLOW)
    assert problem.field == "sampling.scheduler"
    assert "DPM++ 2M Karras" in problem.message
    assert "flow" in problem.message
    assert "Flow Euler" in problem.hint
    assert fields(sampling(scheduler="flow_euler"), RECORD, FLOW) == []


def test_the_models_own_prediction_goes_before_the_familys():
    assert prediction_of(RECORD, SD1) is Prediction.EPSILON
    assert prediction_of(dataclasses.replace(RECORD, prediction="v_prediction"), SD1) is Prediction.V
    assert prediction_of(dataclasses.replace(RECORD, prediction="nonsense"), SD1) is Prediction.EPSILON


def test_what_a_family_supports_is_not_refused():
    able = dataclasses.replace(SD1, supports=SD1.supports | {Feature.IMAGE})
    request = dataclasses.replace(GOOD, image=ImageInput(path="/a.png"))
    assert fields(request, RECORD, able) == []


HUGE, LONG = 10**4000, "x" * 1_000_000


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(model=LONG),
        sampling(scheduler=LONG),
        sampling(num_inference_steps=HUGE),
        sampling(seed=HUGE),
        dataclasses.replace(GOOD, size=Size(width=HUGE)),
        dataclasses.replace(GOOD, count=HUGE),
    ],
    ids=["model", "scheduler", "steps", "seed", "width", "count"],
)
def test_a_value_of_a_megabyte_makes_no_message_of_a_megabyte(request_):
    """P14: such a value comes out of a dropped picture, and the message is shown at its field."""
    found = problems(request_, None if request_.model == LONG else RECORD, SD1)
    assert found
    assert all(len(problem.message) + len(problem.hint) < 300 for problem in found)


@pytest.mark.parametrize(
    ("weights", "dtype", "wrong"),
    [
        ("int8", "float16", ""),
        ("int4", "Q8_0", ""),
        ("fp8", "float8_e4m3fn", ""),  # they are so already
        ("int3", "float16", "no weights 'int3'"),
        ("int8", "Q4_K", "Q4_K already"),
        ("int8", "float8_e4m3fn", "float8_e4m3fn already"),
        ("int4", "nf4", "nf4 already"),
        ("nf4", "nf4", ""),  # what its file has whole is packed besides
        ("nf4", "Q4_K", "Q4_K already"),
    ],
)
def test_weights_are_known_and_of_fewer_bits_than_the_file_has(weights, dtype, wrong):
    record = dataclasses.replace(RECORD, dtype=dtype)
    asked = dataclasses.replace(GOOD, weights=weights)
    found = [p for p in problems(asked, record, SD1) if p.field == "weights"]
    assert [wrong in p.message for p in found] == ([True] if wrong else [])
