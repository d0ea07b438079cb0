"""The window with models of several families: the panels follow, and the refiner's record goes with the job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.library.metadata.read import StoredPicture
from pipelines.spec.families import by_id
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import GenerationRequest, LoraInput, Refiner, Size, SizeConditioning, Speed

RECORDS = tuple(
    ModelRecord(id=name, path=f"/nowhere/{name}", title=name, family=name)
    for name in ("sdxl", "sdxl-refiner", "flux", "sd1")
)
REQUEST = GenerationRequest(
    model="sdxl",
    sampling=by_id("sdxl").sampling,
    size=Size(width=1024, height=1024),
    size_conditioning=SizeConditioning(crop_top=8),
    refiner=Refiner(model="sdxl-refiner", switch_at=0.7),
)


@pytest.fixture
def session(application):
    application.session.set_records(RECORDS)
    return application.session


def test_a_request_with_a_refiner_is_shown_and_comes_back(session):
    assert session.set_request(REQUEST) == ()
    assert session.request() == REQUEST
    assert session.state.reason == ""


def test_another_family_takes_only_what_it_can(session):
    session.set_request(REQUEST)
    session._panels["model"].setValue("flux")
    request = session.request()
    assert (request.refiner, request.size_conditioning) == (None, SizeConditioning())
    assert request.sampling.scheduler == "flow_euler"
    assert session.state.reason == ""


@pytest.mark.parametrize(
    "refiner", [Refiner(model="gone"), Refiner(model="sdxl-refiner", switch_at=7.0), Refiner(model="flux")]
)
def test_a_refiner_that_cannot_be_used_is_left_out_and_told(session, refiner):
    found = session.set_request(replace(REQUEST, refiner=refiner))
    assert [problem.field.partition(".")[0] for problem in found] == ["refiner"]
    assert session.request() == replace(REQUEST, refiner=None)


def test_a_told_size_that_no_model_takes_is_left_out(session):
    told = SizeConditioning(original=Size(width=99999, height=64))
    (problem,) = session.set_request(replace(REQUEST, size_conditioning=told))
    assert problem.field == "size_conditioning.original.width"
    assert session.request().size_conditioning == SizeConditioning()


def test_what_goes_with_a_model_is_no_model_and_goes_with_the_job(session, monkeypatch):
    ink = ModelRecord(id="ink", path="/ink", title="Ink", kind=Kind.LORA, family="sdxl")
    session.set_records((ink, *RECORDS))
    assert [record.id for record in session.records()] == [record.id for record in RECORDS]
    jobs = []
    monkeypatch.setattr(session._bridge._lane.worker, "submit", jobs.append)
    session.submit(replace(REQUEST, loras=(LoraInput(model="ink"),)), RECORDS[0])
    assert jobs[0].parts == {"ink": ink}


def test_a_lora_that_is_not_here_leaves_those_of_the_window(session):
    ink = ModelRecord(id="ink", path="/ink", title="Ink", kind=Kind.LORA, family="sdxl")
    session.set_records((*RECORDS, ink))
    kept = (LoraInput(model="ink", weight=0.5),)
    assert not session.set_request(replace(REQUEST, loras=kept))
    (problem,) = session.set_request(replace(REQUEST, loras=(*kept, LoraInput(model="gone"))))
    assert problem.field == "loras[1].model"
    assert session.request().loras == kept


def test_a_lora_that_no_panel_shows_does_not_bar_the_next_model(session):
    ink = ModelRecord(id="ink", path="/ink", title="Ink", kind=Kind.LORA, family="sdxl")
    session.set_records((*RECORDS, ink))
    session.set_request(replace(REQUEST, refiner=None, loras=(LoraInput(model="ink"),)))
    session._panels["model"].setValue("sd1")
    assert (session.request().loras, session.state.reason) == ((), "")


def test_the_refiners_record_goes_with_the_job(session, monkeypatch):
    jobs = []
    monkeypatch.setattr(session._bridge._lane.worker, "submit", jobs.append)
    session.submit(REQUEST, RECORDS[0])
    assert jobs[0].refiner == RECORDS[1]


def test_a_picture_brings_its_step_cache_back_and_leaves_the_machines_switches_as_they_are(
    application, session
):
    session.set_request(replace(REQUEST, refiner=None, speed=Speed(compile=True, channels_last=True)))
    flux = GenerationRequest(
        model="flux",
        sampling=by_id("flux").sampling,
        size=REQUEST.size,
        speed=Speed(step_cache="first_block"),
    )
    application._restore(StoredPicture(request=flux))
    assert session.request().speed == Speed(step_cache="first_block", compile=True)
    assert session.state.reason == ""


def test_a_small_vae_of_the_family_goes_with_the_job(session, monkeypatch):
    tiny = {
        name: ModelRecord(id=name, path=f"/{name}.safetensors", title=name, kind=Kind.TINY_VAE, family=family)
        for name, family in (("taesdxl", ""), ("taef1", "flux"))
    }
    session.set_records((*RECORDS, *tiny.values()))
    jobs = []
    monkeypatch.setattr(session._bridge._lane.worker, "submit", jobs.append)
    session.submit(REQUEST, RECORDS[0])
    session.submit(replace(REQUEST, model="sd1", refiner=None), RECORDS[3])
    assert [job.tiny_vae for job in jobs] == [tiny["taesdxl"], None]
