import dataclasses

import pytest

from pipelines.spec.advice import advice
from pipelines.spec.families.flux import FLUX_DEV
from pipelines.spec.families.sd1 import SD1
from pipelines.spec.request import GenerationRequest, Prompt, Sampling
from pipelines.spec.schedulers import SCHEDULERS
from pipelines.spec.validate import problems

KEPT_OUT = GenerationRequest(model="m", prompt=Prompt(text="a fox", negative="snow"))


def at_guidance(guidance: float) -> GenerationRequest:
    return dataclasses.replace(KEPT_OUT, sampling=Sampling(guidance_scale=guidance))


@pytest.mark.parametrize(("guidance", "told"), [(1.0, True), (0.0, True), (1.5, False)])
def test_a_negative_prompt_without_effect_is_told(guidance, told):
    found = advice(at_guidance(guidance), SD1)
    assert [note.field for note in found] == ["prompt.negative"] * told
    assert not any(note.stops for note in found)


def test_flux_asks_for_true_cfg():
    (note,) = advice(dataclasses.replace(KEPT_OUT, sampling=FLUX_DEV.sampling), FLUX_DEV)
    assert "true CFG" in note.told
    wanted = dataclasses.replace(KEPT_OUT, sampling=FLUX_DEV.sampling, true_cfg_scale=3.0)
    assert advice(wanted, FLUX_DEV) == ()


@pytest.mark.parametrize("negative", ["", "  \n"])
def test_an_empty_one_is_not_worth_a_word(negative):
    request = dataclasses.replace(at_guidance(1.0), prompt=Prompt(text="a fox", negative=negative))
    assert advice(request, SD1) == ()


def test_too_few_steps_are_told_but_do_not_stop():
    row = next(row for row in SCHEDULERS if row.good_steps > row.min_steps)
    sampling = Sampling(scheduler=row.id, num_inference_steps=row.good_steps - 1)
    request = GenerationRequest(model="m", sampling=sampling)
    (note,) = advice(request, SD1)
    assert (note.field, note.stops) == ("sampling.num_inference_steps", False)
    assert f"fewer than {row.good_steps} steps" in note.message
    assert not [p for p in problems(request, None, SD1) if p.field.startswith("sampling")]
    enough = dataclasses.replace(sampling, num_inference_steps=row.good_steps)
    assert advice(dataclasses.replace(request, sampling=enough), SD1) == ()


def test_nothing_is_said_of_a_sampler_that_is_not_there():
    assert advice(GenerationRequest(model="m", sampling=Sampling(scheduler="no such")), SD1) == ()
