"""What is wrong with the LoRAs of a request, and which family a LoRA is for."""

import dataclasses

import pytest

from pipelines.spec.adding import added
from pipelines.spec.errors import ModelError
from pipelines.spec.families import FAMILIES, by_id, fitting
from pipelines.spec.families.base import AddOnFacts, Feature
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import GenerationRequest, LoraInput, Refiner
from pipelines.spec.validate import problems

MODEL = ModelRecord(id="m", path="/m", title="M", family="sd1")
INK = ModelRecord(id="ink", path="/ink.safetensors", title="Ink", kind=Kind.LORA, family="sd1")


def found(*loras: LoraInput, parts: tuple[ModelRecord, ...] = (INK,), model: ModelRecord = MODEL):
    request = GenerationRequest(model="m", loras=loras)
    family = by_id(model.family)
    request = dataclasses.replace(request, sampling=family.sampling, size=family.size)
    return problems(request, model, family, parts={part.id: part for part in parts})


def test_a_lora_of_the_family_is_taken_at_every_weight_that_makes_sense():
    for weight in (-10.0, 0.0, 1.0, 10.0):
        assert found(LoraInput(model="ink", weight=weight)) == ()


@pytest.mark.parametrize("weight", [-10.1, 10.1, float("nan"), float("inf")])
def test_a_weight_out_of_range(weight):
    (problem,) = found(LoraInput(model="ink", weight=weight))
    assert problem.field == "loras[0].weight"


def test_what_is_missing_broken_or_something_else():
    broken = dataclasses.replace(INK, id="broken", title="Broken", problem="It is a LoHa.")
    other = dataclasses.replace(INK, id="other", title="Other", kind=Kind.CHECKPOINT)
    told = found(
        *(LoraInput(model=name) for name in ("ink", "gone", "broken", "other")), parts=(INK, broken, other)
    )
    assert [problem.field for problem in told] == [f"loras[{n}].model" for n in (1, 2, 3)]
    for problem, words in zip(
        told, ("'gone' was not found", "It is a LoHa.", "a checkpoint, not a LoRA"), strict=True
    ):
        assert words in problem.message


@pytest.mark.parametrize("made_for", [family.id for family in FAMILIES])
@pytest.mark.parametrize("model", ["sd1", "sd2", "sdxl", "flux", "flux-schnell"])
def test_every_lora_against_every_base(made_for, model):
    """M8: refused by a sentence that names the file and both."""
    lora = dataclasses.replace(INK, family=made_for)
    told = found(LoraInput(model="ink"), parts=(lora,), model=dataclasses.replace(MODEL, family=model))
    if by_id(made_for).add_ons.base == by_id(model).add_ons.base:
        assert told == ()
        return
    (problem,) = told
    for word in ("Ink", by_id(made_for).name, by_id(model).name):
        assert word in problem.message


def test_twice_and_too_many():
    (problem,) = found(LoraInput(model="ink"), LoraInput(model="ink", weight=0.5))
    assert (problem.field, "2 times" in problem.message) == ("loras", True)
    many = tuple(LoraInput(model="x" * 1000) for _ in range(5000))
    (problem,) = found(*many)
    assert problem.field == "loras"
    assert len(problem.message) < 200


def test_a_lora_is_no_model_and_no_refiner():
    request = GenerationRequest(model="ink")
    assert [problem.field for problem in problems(request, INK, by_id("sd1"))] == ["model"]
    sdxl = by_id("sdxl")
    request = GenerationRequest(
        model="m", refiner=Refiner(model="ink"), sampling=sdxl.sampling, size=sdxl.size
    )
    lora = dataclasses.replace(INK, family="sdxl")
    base = dataclasses.replace(MODEL, family="sdxl")
    assert [problem.field for problem in problems(request, base, sdxl, lora)] == ["refiner.model"]


def test_the_records_that_go_with_the_job():
    request = GenerationRequest(model="m", loras=(LoraInput(model="ink"), LoraInput(model="gone")))
    assert added(request, {"ink": INK, "more": INK}) == {"ink": INK}


def test_the_refiner_takes_none():
    assert Feature.LORA not in by_id("sdxl-refiner").supports


@pytest.mark.parametrize(
    ("facts", "family"),
    [
        (AddOnFacts(denoiser="unet", width=768), "sd1"),
        (AddOnFacts(denoiser="unet", width=1024), "sd2"),
        (AddOnFacts(denoiser="unet", width=2048), "sdxl"),
        (AddOnFacts(denoiser="unet", width=1280), "sdxl-refiner"),
        (AddOnFacts(denoiser="transformer", width=3072), "flux-schnell"),
        (AddOnFacts(denoiser="unet", width=768, told="sdxl_base_v1-0"), "sd1"),
        (AddOnFacts(denoiser="unet", width=96, told="sd_v1"), "sd1"),
        (AddOnFacts(denoiser="unet", width=96, told="sdxl"), "sdxl"),
        (AddOnFacts(denoiser="unet", told="stable-diffusion-xl-v1-base/lora"), "sdxl"),
        (AddOnFacts(denoiser="unet", told="stable-diffusion-xl-v1-refiner"), "sdxl-refiner"),
        (AddOnFacts(told="sd_2.1_768"), "sd2"),
        (AddOnFacts(denoiser="transformer", width=64, told="flux-1-dev/lora"), "flux-schnell"),
    ],
    ids=str,
)
def test_shapes_tell_the_base_and_words_where_they_are_silent(facts, family):
    """Metadata lie; a reduced model has only them. FLUX's two take the same ones, so either stands for both."""
    assert fitting(facts).id == family


@pytest.mark.parametrize(
    "facts",
    [
        AddOnFacts(denoiser="unet", width=96),
        AddOnFacts(denoiser="transformer", width=1536, told="sd3"),
        AddOnFacts(denoiser="transformer", width=64, told="sdxl"),
        AddOnFacts(),
    ],
    ids=str,
)
def test_a_base_that_nothing_tells_is_said_to_be_unknown(facts):
    with pytest.raises(ModelError, match="does not show which models"):
        fitting(facts)
