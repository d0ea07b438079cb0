from dataclasses import replace
from typing import Any

import pytest

from pipelines.spec.families import by_id
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Refiner, Size, SizeConditioning
from pipelines.spec.validate import problems

SDXL = by_id("sdxl")
BASE = ModelRecord(id="base", path="/b", title="Base", family="sdxl")
RECORD = ModelRecord(id="r", path="/r", title="R", family="sdxl-refiner")


def asked(**changes: Any) -> GenerationRequest:
    return GenerationRequest(model="base", sampling=SDXL.sampling, refiner=Refiner(model="r", **changes))


def fields(request: GenerationRequest, refiner: ModelRecord | None = RECORD) -> list[str]:
    return [problem.field for problem in problems(request, BASE, SDXL, refiner)]


@pytest.mark.parametrize("switch_at", [0.0, 0.8, 1.0])
def test_a_good_refiner_has_no_problem(switch_at):
    assert fields(asked(switch_at=switch_at, num_inference_steps=20)) == []
    assert fields(asked(), replace(RECORD, family="sdxl")) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"switch_at": 1.1}, "refiner.switch_at"),
        ({"switch_at": -0.1}, "refiner.switch_at"),
        ({"switch_at": float("nan")}, "refiner.switch_at"),
        ({"num_inference_steps": 0}, "refiner.num_inference_steps"),
        ({"num_inference_steps": 151}, "refiner.num_inference_steps"),
        ({"aesthetic_score": 11.0}, "refiner.aesthetic_score"),
        ({"negative_aesthetic_score": float("nan")}, "refiner.negative_aesthetic_score"),
    ],
    ids=str,
)
def test_a_wrong_number_is_named(change, field):
    assert fields(asked(**change)) == [field]


@pytest.mark.parametrize(
    "record",
    [
        None,
        replace(RECORD, problem="unet is missing."),
        replace(RECORD, family="flux"),
        replace(RECORD, family="sd1"),
        replace(RECORD, family="unheard"),
        replace(RECORD, family=""),
    ],
    ids=str,
)
def test_a_model_that_cannot_refine_is_named(record):
    assert fields(asked(), record) == ["refiner.model"]


def test_a_family_without_use_for_a_refiner_says_so():
    for family in ("sd1", "sd2", "flux"):
        own = by_id(family)
        request = replace(asked(), sampling=own.sampling)
        assert [p.field for p in problems(request, replace(BASE, family=family), own, RECORD)] == ["refiner"]


@pytest.mark.parametrize(
    ("told", "field"),
    [
        (SizeConditioning(crop_left=-1), "size_conditioning.crop_left"),
        (SizeConditioning(crop_top=99999), "size_conditioning.crop_top"),
        (SizeConditioning(original=Size(width=0, height=64)), "size_conditioning.original.width"),
        (SizeConditioning(target=Size(width=64, height=99999)), "size_conditioning.target.height"),
    ],
    ids=str,
)
def test_a_size_that_no_model_can_be_told_is_named(told, field):
    request = GenerationRequest(model="base", sampling=SDXL.sampling, size_conditioning=told)
    assert fields(request) == [field]


@pytest.mark.parametrize("scale", [0.9, 31.0, float("nan")])
def test_true_cfg_has_its_range(scale):
    flux = by_id("flux")
    request = GenerationRequest(model="base", sampling=flux.sampling, true_cfg_scale=scale)
    assert [p.field for p in problems(request, BASE, flux)] == ["true_cfg_scale"]


def test_an_old_request_still_reads_and_a_full_one_comes_back():
    old = {"model": "m", "prompt": {"text": "x", "negative": ""}, "count": 2}
    assert GenerationRequest.from_dict(old).refiner is None
    full = replace(
        asked(num_inference_steps=7, prompt="a fox", switch_at=0.5),
        true_cfg_scale=2.5,
        size_conditioning=SizeConditioning(original=Size(width=1, height=2), crop_top=3),
    )
    assert GenerationRequest.from_dict(full.to_dict()) == full
    assert hash(full)
