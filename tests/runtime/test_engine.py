"""The real engine on a tiny random model: its events, its pixels, its cancels."""

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.runtime.compute import Compute
from pipelines.spec.errors import Cancelled, RequestError
from pipelines.spec.events import ImageSaved, Stage, StageChanged, StepDone
from pipelines.spec.families.base import Prediction
from pipelines.spec.schedulers import fitting, scheduler_by_id
from tests.runtime.conftest import SIDE, files, job_of, options, run


def pictures(events) -> list[np.ndarray]:
    return [np.asarray(Image.open(event.path)) for event in events if isinstance(event, ImageSaved)]


def test_a_job_goes_through_its_stages_and_saves_each_picture(engine, tiny_model, out):
    events = run(engine, job_of(tiny_model, count=2))
    stages = [(event.stage, event.image) for event in events if isinstance(event, StageChanged)]
    drawing = [Stage.DENOISE, Stage.DECODE, Stage.SAVE]
    assert stages == [
        (Stage.LOAD, 0),
        (Stage.ENCODE, 0),
        *[(s, 0) for s in drawing],
        *[(s, 1) for s in drawing],
    ]
    steps = [(event.image, event.step) for event in events if isinstance(event, StepDone)]
    assert steps == [(image, step) for image in (0, 1) for step in (1, 2, 3, 4)]
    saved = [event for event in events if isinstance(event, ImageSaved)]
    assert [event.seed for event in saved] == [7, 8]
    assert [event.path for event in saved] == [str(path) for path in files(out)]
    assert [picture.shape for picture in pictures(events)] == [(SIDE, SIDE, 3)] * 2


def test_the_same_request_gives_the_same_pixels(engine, tiny_model):
    first, again, other = (
        run(engine, job_of(tiny_model, seed=seed, scheduler="euler_a")) for seed in (7, 7, 8)
    )
    assert np.array_equal(pictures(first)[0], pictures(again)[0])
    assert not np.array_equal(pictures(first)[0], pictures(other)[0])


@pytest.mark.parametrize("scheduler", ["euler_a", "dpmpp_2m_sde_karras"])
def test_a_picture_of_several_equals_the_single_one_of_its_seed(engine, tiny_model, scheduler):
    several = pictures(run(engine, job_of(tiny_model, seed=7, count=3, scheduler=scheduler)))
    single = pictures(run(engine, job_of(tiny_model, seed=8, scheduler=scheduler)))
    assert np.array_equal(several[1], single[0])


@pytest.fixture(scope="session")
def bare(torch_engine, tiny_model):
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(
        tiny_model, dtype=torch.float32, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    "scheduler", ["euler", "euler_a", "dpmpp_2m_karras", "dpmpp_sde", "heun", "ddim", "pndm"]
)
def test_the_pixels_are_those_of_the_bare_pipeline(engine, tiny_model, bare, scheduler):
    row = scheduler_by_id(scheduler)
    config = bare.scheduler.config
    bare.scheduler = getattr(diffusers, row.class_name).from_config(config, **dict(row.options))
    expected = bare(
        "a red circle", negative_prompt="blue", height=SIDE, width=SIDE, num_inference_steps=4, guidance_scale=5.0,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]  # fmt: skip
    ours = pictures(run(engine, job_of(tiny_model, negative="blue", scheduler=scheduler)))
    assert np.array_equal(ours[0], np.asarray(expected))


@pytest.mark.parametrize("row", fitting(Prediction.EPSILON), ids=lambda row: row.id)
def test_every_sampler_makes_a_finite_picture_and_counts_its_steps(engine, tiny_model, row):
    events = run(engine, job_of(tiny_model, scheduler=row.id))
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4]
    assert len(pictures(events)) == 1


def test_a_wrong_request_is_refused_with_its_field(engine, tiny_model, out):
    with pytest.raises(RequestError) as caught:
        run(engine, job_of(tiny_model, steps=0))
    assert caught.value.field == "sampling.num_inference_steps"
    assert not files(out)


@pytest.mark.parametrize("stage", Stage)
def test_cancel_at_a_stage_saves_nothing(engine, tiny_model, out, stage):  # G8
    for _ in range(3):
        job = job_of(tiny_model)

        def cancel(event, job=job):
            if isinstance(event, StageChanged) and event.stage is stage:
                job.cancel()

        if (
            stage is Stage.SAVE
        ):  # the last safe point is before it: a picture that is being saved is saved whole
            events = run(engine, job, cancel)
            assert len(pictures(events)) == 1
            continue
        with pytest.raises(Cancelled):
            run(engine, job, cancel)
        assert not files(out)
    run(engine, job_of(tiny_model))


def test_cancel_in_a_step_comes_before_the_next_block(engine, tiny_model, out, monkeypatch):  # G7
    job = job_of(tiny_model)
    unet = engine.compute.load(job, _sd1()).unet
    calls = []

    def cancel_in_the_first_block(*_):
        calls.append("first")
        job.cancel()

    first = unet.down_blocks[0].register_forward_hook(cancel_in_the_first_block)
    middle = unet.mid_block.register_forward_hook(lambda *_: calls.append("middle"))
    with first, middle, pytest.raises(Cancelled):
        run(engine, job)
    assert calls == ["first"]
    assert not files(out)
    assert not any(block._forward_pre_hooks for block in unet.down_blocks), "our hooks are gone"


def test_cancel_in_a_load_stops_between_tensors_and_leaves_nothing_half_loaded(
    engine, tiny_model, monkeypatch
):
    from pipelines.runtime import network

    job, seen, tensors = job_of(tiny_model), [], network.tensors

    def watched(*wanted):
        for item in tensors(*wanted):
            seen.append(item)
            job.cancel()
            yield item

    monkeypatch.setattr(network, "tensors", watched)
    with pytest.raises(Cancelled):
        run(engine, job)
    assert len(seen) == 1
    assert not any(key.folder.endswith("unet") for key in engine.compute.store.keys())  # noqa: SIM118


def test_a_repeated_prompt_and_model_are_neither_encoded_nor_loaded_again(engine, tiny_model):
    run(engine, job_of(tiny_model, text="once"))
    loads, encodes = engine.compute.store.loads, engine.compute.prompts.encodes
    run(engine, job_of(tiny_model, text="once", seed=9))
    assert (engine.compute.store.loads, engine.compute.prompts.encodes) == (loads, encodes)


def _sd1():
    from pipelines.spec.families import by_id

    return by_id("sd1")


def test_all_threads_are_torchs_own_number_again_after_an_engine_with_so_many(out):
    before = torch.get_num_threads()
    try:
        Compute(replace(options(out), threads=0))
        own = torch.get_num_threads()
        Compute(replace(options(out), threads=own + 1))
        assert torch.get_num_threads() == own + 1
        Compute(replace(options(out), threads=0))
        assert torch.get_num_threads() == own
    finally:
        torch.set_num_threads(before)
