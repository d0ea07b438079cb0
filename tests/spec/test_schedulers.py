import dataclasses
import json

import pytest

from pipelines.spec.errors import RequestError
from pipelines.spec.families import FAMILIES
from pipelines.spec.families.base import Prediction
from pipelines.spec.schedulers import (
    SCHEDULERS,
    find,
    fitting,
    samplers,
    scheduler_by_id,
    schedules,
    steps_problem,
)

WANTED = "Euler, Euler a, DPM++ 2M, DPM++ 2M SDE, DPM++ SDE, Heun, LMS, DPM2, DPM2 a, UniPC, DDIM, PNDM, DEIS, LCM, TCD"


def test_every_sampler_people_know_is_there():
    assert samplers(Prediction.EPSILON) == tuple(WANTED.split(", "))
    assert len(SCHEDULERS) >= 20


def test_ids_and_names_are_unique_and_rows_hashable():
    assert len({row.id for row in SCHEDULERS}) == len({row.name for row in SCHEDULERS}) == len(SCHEDULERS)
    assert len(set(SCHEDULERS)) == len(SCHEDULERS)


def test_a_name_and_an_id_lead_to_the_same_row():
    for row in SCHEDULERS:
        assert find(row.sampler, row.schedule) is row
        assert find(row.name) is row
        assert find(row.id.upper()) is row
        assert scheduler_by_id(row.id) is row


# The usages that diffusers' overview page names for A1111's samplers.
OVERVIEW = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "DPM++ 2M SDE Karras": (
        "DPMSolverMultistepScheduler",
        {"use_karras_sigmas": True, "algorithm_type": "sde-dpmsolver++"},
    ),
    "DPM++ SDE": ("DPMSolverSinglestepScheduler", {}),
    "DPM++ SDE Karras": ("DPMSolverSinglestepScheduler", {"use_karras_sigmas": True}),
    "DPM2": ("KDPM2DiscreteScheduler", {}),
    "DPM2 Karras": ("KDPM2DiscreteScheduler", {"use_karras_sigmas": True}),
    "DPM2 a": ("KDPM2AncestralDiscreteScheduler", {}),
    "DPM2 a Karras": ("KDPM2AncestralDiscreteScheduler", {"use_karras_sigmas": True}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
    "LMS Karras": ("LMSDiscreteScheduler", {"use_karras_sigmas": True}),
    "Euler SGM Uniform": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "Euler Exponential": ("EulerDiscreteScheduler", {"use_exponential_sigmas": True}),
    "Euler Beta": ("EulerDiscreteScheduler", {"use_beta_sigmas": True, "timestep_spacing": "linspace"}),
}


@pytest.mark.parametrize("name", OVERVIEW)
def test_a_fused_old_name_is_the_class_and_options_of_the_overview(name):
    class_name, options = OVERVIEW[name]
    row = find(name)
    assert row.class_name == class_name
    assert options.items() <= dict(row.options).items()


@pytest.mark.parametrize(
    ("sampler", "schedule", "row_id"),
    [
        ("dpm++ 2m", "karras", "dpmpp_2m_karras"),
        ("PLMS", "", "pndm"),
        ("Euler", "Simple", "euler_sgm_uniform"),
        ("Euler", "Automatic", "euler"),
        ("Euler Ancestral", "", "euler_a"),
        ("DPM++ 2M Karras", "Exponential", "dpmpp_2m_exponential"),
        ("DPM++ 2M Karras", "Automatic", "dpmpp_2m_karras"),
    ],
)
def test_other_tools_words_are_understood(sampler, schedule, row_id):
    assert find(sampler, schedule).id == row_id


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(RequestError) as caught:
        find("Eulr a")
    assert caught.value.field == "sampling.scheduler"
    assert "Euler a" in caught.value.hint
    with pytest.raises(RequestError, match="dpmpp_2m"):
        scheduler_by_id("dpmpp_2n")


def test_a_schedule_that_the_sampler_has_not_is_answered_with_those_it_has():
    with pytest.raises(RequestError) as caught:
        find("Euler a", "Karras")
    assert "SGM Uniform" in caught.value.hint
    assert schedules("Euler a", Prediction.EPSILON) == ("Automatic", "SGM Uniform")


def test_flow_models_are_offered_flow_samplers_only():
    assert [row.id for row in fitting(Prediction.FLOW)] == ["flow_euler"]
    assert "flow_euler" not in [row.id for row in fitting(Prediction.V)]


def test_each_familys_own_sampler_fits_it():
    for family in FAMILIES:
        assert scheduler_by_id(family.sampling.scheduler) in fitting(family.prediction)


def test_steps_that_a_sampler_cannot_make_are_refused():
    assert "at least 2" in steps_problem(find("Euler"), 1)
    assert steps_problem(find("Euler", "SGM Uniform"), 1) == ""
    assert "at most 50" in steps_problem(find("LCM"), 51)
    assert steps_problem(find("LCM"), 50) == ""
    # numpy.arange(1000, 0, -1000 / n) has one value too many for these.
    refused = [n for n in range(1, 151) if steps_problem(find("Euler", "SGM Uniform"), n)]
    assert refused == [61, 103, 121, 122]


def test_options_are_plain_json():
    for row in SCHEDULERS:
        assert json.loads(json.dumps(dict(row.options))) == dict(row.options)
        assert dataclasses.asdict(row)["id"] == row.id
