import dataclasses
import json

import pytest

from pipelines.spec.errors import RequestError
from pipelines.spec.request import (
    MAX_LEFT_OUT,
    ControlInput,
    GenerationRequest,
    ImageInput,
    IpAdapterInput,
    LoraInput,
    Prompt,
    Sampling,
    Size,
    Speed,
)

FULL = GenerationRequest(
    model="demo-sd",
    weights="int8",
    prompt=Prompt(text='a "red" circle\nКруг 😀', negative="blue"),
    sampling=Sampling(scheduler="euler_a", num_inference_steps=7, guidance_scale=3.5, seed=2**32 - 1),
    size=Size(width=256, height=320),
    image=ImageInput(path="/a.png", strength=0.25),
    controls=(ControlInput(model="c", path="/b.png", end=0.5),),
    loras=(LoraInput(model="l", weight=-1.5), LoraInput(model="k")),
    ip_adapters=(IpAdapterInput(model="i", path="/c.png", scale=0.8),),
    count=3,
)


@pytest.mark.parametrize("request_", [FULL, GenerationRequest(model="m")], ids=["full", "plain"])
def test_json_there_and_back_is_the_same_request(request_):
    assert GenerationRequest.from_dict(json.loads(json.dumps(request_.to_dict()))) == request_


def test_a_request_is_hashable_and_frozen():
    assert hash(FULL) == hash(GenerationRequest.from_dict(FULL.to_dict()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.count = 2  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": None}, "model"),
        ({"prompt": "text"}, "prompt"),
        ({"prompt": {"text": 3}}, "prompt.text"),
        ({"sampling": {"num_inference_steps": 2.5}}, "sampling.num_inference_steps"),
        ({"sampling": {"num_inference_steps": True}}, "sampling.num_inference_steps"),
        ({"sampling": {"guidance_scale": float("inf")}}, "sampling.guidance_scale"),
        ({"sampling": {"guidance_scale": 10**400}}, "sampling.guidance_scale"),
        ({"sampling": {"steps": 3}}, "sampling.steps"),
        ({"size": {"width": "512"}}, "size.width"),
        ({"loras": [{"weight": 1.0}]}, "loras[0].model"),
        ({"controls": {}}, "controls"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(change, field):
    with pytest.raises(RequestError) as caught:
        GenerationRequest.from_dict({"model": "m"} | change)
    assert caught.value.field == field


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(RequestError):
        GenerationRequest.from_dict(data)


def test_the_model_is_the_one_field_that_must_be_given():
    with pytest.raises(RequestError) as caught:
        GenerationRequest.from_dict({})
    assert caught.value.field == "model"
    assert GenerationRequest.from_dict({"model": "m"}) == GenerationRequest(model="m")


def test_what_can_be_read_is_kept_with_its_neighbours():
    data = FULL.to_dict()
    data["speed"] = {"compile": True, "turbo": 9}
    data["loras"] = [{"model": "l", "weight": "much"}, {"weight": 1.0}, {"model": "k"}]
    data["refiner"] = {"switch_at": 0.5}
    request, left_out = GenerationRequest.readable(data)
    assert [error.field for error in left_out] == [
        "refiner.model", "loras[0].weight", "loras[1].model", "speed.turbo",
    ]  # fmt: skip
    assert request == dataclasses.replace(
        FULL, refiner=None, speed=Speed(compile=True), loras=(LoraInput(model="l"), LoraInput(model="k"))
    )


def test_a_whole_request_is_readable_and_none_is_not():
    assert GenerationRequest.readable(FULL.to_dict()) == (FULL, ())
    with pytest.raises(RequestError):
        GenerationRequest.readable([FULL.to_dict()])


def test_thousands_of_unknown_fields_are_not_all_named():
    request, left_out = GenerationRequest.readable({"model": "m"} | {f"f{n}": n for n in range(5000)})
    assert request == GenerationRequest(model="m")
    assert len(left_out) == MAX_LEFT_OUT
