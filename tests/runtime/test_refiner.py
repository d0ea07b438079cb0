"""Base and refiner as one picture: one schedule, one latent handed over, steps and cancel through both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.spec.errors import Cancelled, RequestError
from pipelines.spec.events import StepDone
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Task
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Refiner
from tests.runtime.conftest import files, run
from tests.runtime.test_families import bare, plain_call, request_of
from tests.runtime.test_families import drawn as drawn_alone
from tests.runtime.tiny import written

BASE, REFINER = by_id("sdxl"), by_id("sdxl-refiner")
STEPS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("refiner")


@pytest.fixture(scope="module")
def base(folder, torch_engine) -> ModelRecord:
    return written(folder, BASE)


@pytest.fixture(scope="module")
def refiner(folder, torch_engine) -> ModelRecord:
    return written(folder, REFINER)


def asked(
    refiner: ModelRecord, scheduler: str = "euler", negative: str = "", **changes: Any
) -> GenerationRequest:
    request = request_of(BASE, refiner=Refiner(model=refiner.id, **changes))
    sampling = replace(request.sampling, num_inference_steps=STEPS, scheduler=scheduler)
    return replace(request, sampling=sampling, prompt=Prompt(text="a red circle", negative=negative))


def job_of(request: GenerationRequest, base: ModelRecord, refiner: ModelRecord) -> Job:
    return Job(id=1, request=request, model=base, refiner=refiner)


def drawn(engine, request, base, refiner) -> tuple[np.ndarray, list[StepDone]]:
    from PIL import Image

    events = run(engine, job_of(request, base, refiner))
    with Image.open(events[-1].path) as picture:  # pyright: ignore[reportAttributeAccessIssue]
        return np.asarray(picture), [event for event in events if isinstance(event, StepDone)]


@pytest.mark.parametrize("scheduler", ["euler", "euler_a", "dpmpp_2m_karras", "heun", "ddim"])
def test_the_pixels_are_those_of_the_plain_ensemble(engine, base, refiner, scheduler):
    request = asked(refiner, scheduler, negative="blue", switch_at=0.6, aesthetic_score=7.0, prompt="a fox")
    call = plain_call(request) | {"negative_prompt": "blue"}
    latents = bare(base, BASE, request)(**call, denoising_end=0.6, output_type="latent").images
    call |= {"prompt": "a fox", "image": latents, "denoising_start": 0.6, "aesthetic_score": 7.0}
    sides = call.pop("height"), call.pop("width")
    expected = bare(refiner, REFINER, request, Task.REFINE)(**call, original_size=sides).images[0]
    picture, steps = drawn(engine, request, base, refiner)
    assert np.array_equal(picture, np.asarray(expected))
    assert [event.step for event in steps] == [*range(1, steps[-1].steps + 1)]
    assert steps[-1].steps == STEPS + (
        scheduler == "heun"
    )  # the step that Heun is cut in counts on both sides


def test_own_steps_and_scores_change_the_picture(engine, base, refiner):
    request = asked(refiner, switch_at=0.5)
    assert request.refiner
    own = {
        "num_inference_steps": 20,
        "aesthetic_score": 1.0,
        "negative_aesthetic_score": 9.0,
        "prompt": "something else",
    }
    first, steps = drawn(engine, request, base, refiner)
    assert steps[-1].steps == STEPS
    for name, value in own.items():
        changed = replace(request, refiner=replace(request.refiner, **{name: value}))
        other, steps = drawn(engine, changed, base, refiner)
        assert not np.array_equal(first, other), name
        assert steps[-1].steps == (15 if name == "num_inference_steps" else STEPS)


def test_at_the_end_the_refiner_has_no_part_and_at_the_start_all(engine, base, refiner):
    request = asked(refiner, switch_at=1.0)
    last, steps = drawn(engine, request, base, refiner)
    assert np.array_equal(last, drawn_alone(engine, replace(request, refiner=None), base)[0])
    assert steps[-1].steps == STEPS
    first, steps = drawn(engine, asked(refiner, switch_at=0.0), base, refiner)
    assert steps[-1].steps == STEPS
    assert not np.array_equal(first, last)


def test_another_base_model_can_be_the_refiner(engine, base):
    _, steps = drawn(engine, asked(base, switch_at=0.5), base, base)
    assert steps[-1].steps == STEPS


def test_nothing_is_decoded_in_between_and_previews_go_on(engine, base, refiner, monkeypatch):
    monkeypatch.setattr(engine.compute, "_options", replace(engine.compute._options, preview_interval_s=1e-9))
    decodes = []
    for record, family in ((base, BASE), (refiner, REFINER)):
        vae = engine.compute.load(job_of(asked(refiner), base, refiner), family, record).vae
        decode = vae.decode
        monkeypatch.setattr(vae, "decode", lambda *a, d=decode, **k: decodes.append(1) or d(*a, **k))
    _, steps = drawn(engine, asked(refiner, switch_at=0.5), base, refiner)
    assert len(decodes) == 1
    assert [bool(event.preview) for event in steps] == [True] * (STEPS - 1) + [False]
    assert all(event.eta_s is not None for event in steps[1:])


def test_a_cancel_in_the_refiner_saves_nothing(engine, base, refiner, out):
    job = job_of(asked(refiner, switch_at=0.5), base, refiner)
    unet = engine.compute.load(job, REFINER, refiner).unet
    calls = []

    def cancel(*_):
        calls.append(1)
        job.cancel()

    with unet.down_blocks[0].register_forward_hook(cancel), pytest.raises(Cancelled):
        run(engine, job)
    assert calls == [1]
    assert not files(out)
    assert torch.is_grad_enabled()


def test_a_refiner_alone_begins_no_picture(engine, refiner):
    request = replace(request_of(REFINER), model=refiner.id)
    with pytest.raises(RequestError) as caught:
        run(engine, Job(id=1, request=request, model=refiner))
    assert caught.value.field == "model"
    assert "finishes" in caught.value.message
