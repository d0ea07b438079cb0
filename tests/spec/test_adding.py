"""What is wrong with the LoRAs and ControlNets of a request, and which family each is for."""

import dataclasses

import pytest

from pipelines.spec.adding import added
from pipelines.spec.controls import CONTROLS, PREPROCESSORS, control_kind
from pipelines.spec.errors import ModelError
from pipelines.spec.families import FAMILIES, by_id, fitting
from pipelines.spec.families.base import AddOnFacts, Feature
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import (
    ControlInput,
    EmbeddingInput,
    GenerationRequest,
    IpAdapterInput,
    LoraInput,
    Refiner,
)
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
    assert not {Feature.LORA, Feature.CONTROL, Feature.IP_ADAPTER} & by_id("sdxl-refiner").supports


CANNY = dataclasses.replace(INK, id="canny", title="Canny", path="/canny", kind=Kind.CONTROLNET)


def control_problems(*controls: ControlInput, parts: tuple[ModelRecord, ...] = (CANNY,)):
    request = GenerationRequest(model="m", controls=controls)
    return problems(request, MODEL, by_id("sd1"), parts={part.id: part for part in parts})


def control(**changes) -> ControlInput:
    return dataclasses.replace(ControlInput(model="canny", path="/a.png"), **changes)


def test_a_controlnet_of_the_family_is_taken_also_twice():
    assert control_problems(control()) == ()
    ends = (control(start=0.0, end=0.5), control(start=0.5, end=1.0, preprocess="canny", weight=0.0))
    assert control_problems(*ends) == ()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"path": " "}, "path"),
        ({"weight": -0.1}, "weight"),
        ({"weight": 5.1}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"start": 0.5, "end": 0.5}, "start"),
        ({"start": -0.1}, "start"),
        ({"end": 1.1}, "start"),
        ({"end": float("nan")}, "start"),
        ({"preprocess": "x" * 1000}, "preprocess"),
        ({"preprocess": "depth"}, "preprocess"),
        ({"model": "gone"}, "model"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_one_wrong_field_of_a_control_is_named_alone(changes, field):
    (problem,) = control_problems(control(), control(**changes))
    assert problem.field == f"controls[1].{field}"
    assert len(problem.message) < 200


def test_a_lora_is_no_controlnet_and_one_of_another_family_is_refused_with_both():
    (problem,) = control_problems(control(model="ink"), parts=(INK,))
    assert "a LoRA, not a ControlNet" in problem.message
    (problem,) = control_problems(control(), parts=(dataclasses.replace(CANNY, family="flux"),))
    for word in ("Canny", by_id("flux").name, by_id("sd1").name):
        assert word in problem.message


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("control_v11p_sd15_canny", "canny"),
        ("controlnet-depth-sdxl-1.0", "depth"),
        ("FLUX.1-dev-Controlnet-Canny", "canny"),
        ("control_v11p_sd15_openpose", "pose"),
        ("sedgwick", ""),
        ("", ""),
    ],
)
def test_the_name_of_a_controlnet_says_what_it_follows(name, kind):
    assert control_kind(name) == kind


def test_every_kind_is_one_row():
    ids = [row.id for row in CONTROLS]
    words = [word for row in CONTROLS for word in row.words]
    assert len(set(ids)) == len(ids)
    assert len(set(words)) == len(words)
    assert set(PREPROCESSORS) == {"canny"}


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


WORD = dataclasses.replace(INK, id="word", title="Word", kind=Kind.EMBEDDING, trigger_words=("<ink>",))


def test_embeddings_are_checked_like_the_others():
    same = dataclasses.replace(WORD, id="same", trigger_words=("<INK>",))
    parts = {record.id: record for record in (WORD, same, INK)}

    def fields(*names: str, model: ModelRecord = MODEL) -> list[str]:
        family = by_id(model.family)
        request = GenerationRequest(
            model="m", embeddings=tuple(EmbeddingInput(model=name) for name in names),
            sampling=family.sampling, size=family.size,
        )  # fmt: skip
        return [problem.field for problem in problems(request, model, family, parts=parts)]

    assert fields("word") == []
    assert fields("word", "gone", "ink") == ["embeddings[1].model", "embeddings[2].model"]
    assert fields("word", "word") == ["embeddings"]
    assert fields("word", "same") == ["embeddings"], "two files for one word"
    for family in ("sdxl", "flux"):
        assert fields("word", model=dataclasses.replace(MODEL, family=family)) == ["embeddings"]


EYES = dataclasses.replace(INK, id="eyes", title="Eyes", kind=Kind.IP_ADAPTER)


def picture_problems(*given: IpAdapterInput, model: ModelRecord = MODEL):
    family = by_id(model.family)
    request = GenerationRequest(model="m", ip_adapters=given, sampling=family.sampling, size=family.size)
    return problems(request, model, family, parts={"eyes": EYES, "ink": INK})


def test_picture_prompts_of_the_family_are_taken_also_twice():
    given = IpAdapterInput(model="eyes", path="/a.png")
    assert picture_problems(given, dataclasses.replace(given, scale=0.0)) == ()


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"path": " "}, "path", "needs a picture"),
        ({"scale": -0.1}, "scale", "0 to 5, not -0.1"),
        ({"scale": 5.1}, "scale", "0 to 5"),
        ({"scale": float("nan")}, "scale", "0 to 5"),
        ({"model": "gone"}, "model", "The IP-Adapter 'gone' was not found"),
        ({"model": "ink"}, "model", "'Ink' is a LoRA, not an IP-Adapter"),
    ],
    ids=str,
)
def test_one_wrong_field_of_a_picture_prompt_is_named_alone(changes, field, said):
    given = IpAdapterInput(model="eyes", path="/a.png")
    (problem,) = picture_problems(given, dataclasses.replace(given, **changes))
    assert problem.field == f"ip_adapters[1].{field}"
    assert said in problem.message


def test_flux_says_that_it_reads_none():
    (problem,) = picture_problems(
        IpAdapterInput(model="eyes", path="/a.png"), model=dataclasses.replace(MODEL, family="flux")
    )
    assert problem.field == "ip_adapters"
    assert problem.message == "FLUX.1 dev cannot read a picture prompt (IP-Adapter) here yet."


def test_every_kind_has_a_name_with_its_article():
    names = {kind.named for kind in Kind}
    assert len(names) == len(Kind)
    assert all(name.split()[0] in ("a", "an") for name in names)
