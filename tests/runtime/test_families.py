"""The contract that every row of FAMILIES keeps, on a tiny model of its real classes."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.library.tokens import TokenCount, count_tokens
from pipelines.runtime import device as devices
from pipelines.runtime.latents import pack, unpack
from pipelines.runtime.preview import Previewer, coloured, factors
from pipelines.runtime.sampling import build_scheduler
from pipelines.runtime.text.clean import TOO_LONG
from pipelines.spec.errors import Cancelled, RequestError
from pipelines.spec.events import ImageSaved, StepDone
from pipelines.spec.families import FAMILIES, by_id
from pipelines.spec.families.base import Family, Feature, Task, TextScheme
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Size, SizeConditioning
from pipelines.spec.schedulers import SCHEDULERS, scheduler_by_id
from pipelines.spec.validate import prediction_of, problems
from tests.runtime.conftest import SIDE, files, run
from tests.runtime.tiny import T5_LENGTH, written

DRAWING = [family for family in FAMILIES if Task.TEXT in family.pipelines]
STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="module")
def records(folder, torch_engine) -> dict[str, ModelRecord]:
    return {family.id: written(folder, family) for family in FAMILIES}


@pytest.fixture(params=DRAWING, ids=lambda family: family.id)
def family(request) -> Family:
    return request.param


@pytest.fixture
def record(records, family) -> ModelRecord:
    return records[family.id]


def request_of(
    family: Family, text: str = "a red circle", seed: int = 7, **changes: Any
) -> GenerationRequest:
    sampling = replace(family.sampling, num_inference_steps=STEPS, seed=seed)
    return GenerationRequest(
        model=family.id,
        prompt=Prompt(text=text),
        sampling=sampling,
        size=Size(width=SIDE, height=SIDE),
        **changes,
    )


def job_of(request: GenerationRequest, record: ModelRecord) -> Job:
    return Job(id=1, request=request, model=record)


def drawn(engine, request: GenerationRequest, record: ModelRecord) -> list[np.ndarray]:
    events = run(engine, job_of(request, record))
    return [np.asarray(Image.open(event.path)) for event in events if isinstance(event, ImageSaved)]


def test_the_library_finds_the_family(record, family):
    assert record.family == family.id


def test_a_request_becomes_a_picture_in_its_steps(engine, record, family, out):
    events = run(engine, job_of(request_of(family), record))
    assert [event.step for event in events if isinstance(event, StepDone)] == [*range(1, STEPS + 1)]
    (path,) = files(out)
    with Image.open(path) as picture:
        assert picture.size == (SIDE, SIDE)


def test_seeds_are_stable_and_count_up(engine, record, family):
    several = drawn(engine, request_of(family, count=2), record)
    single = drawn(engine, request_of(family, seed=8), record)
    assert len(several) == 2
    assert np.array_equal(several[1], single[0])
    assert not np.array_equal(several[0], several[1])


def test_unequal_prompts_give_unequal_pictures(engine, record, family):
    one, other = (drawn(engine, request_of(family, text), record)[0] for text in ("red", "a blue square!"))
    assert not np.array_equal(one, other)


def test_a_negative_prompt_counts_where_the_family_says_so(engine, record, family):
    request = request_of(family)
    if Feature.TRUE_CFG in family.supports:
        request = replace(request, true_cfg_scale=4.0)
    kept_out = replace(request, prompt=replace(request.prompt, negative="something else"))
    one, other = (drawn(engine, each, record)[0] for each in (request, kept_out))
    assert np.array_equal(one, other) == (Feature.NEGATIVE_PROMPT not in family.supports)


def test_sides_go_by_the_familys_rule(engine, record, family):
    rule = family.sizes
    assert rule.native % rule.step == rule.minimum % rule.step == 0
    wide = replace(request_of(family), size=Size(width=SIDE + rule.step, height=SIDE))
    assert drawn(engine, wide, record)[0].shape == (SIDE, SIDE + rule.step, 3)
    for side in (rule.minimum - rule.step, rule.maximum + rule.step, SIDE + rule.step // 2):
        wrong = replace(request_of(family), size=Size(width=side, height=SIDE))
        assert [problem.field for problem in problems(wrong, record, family)] == ["size.width"]


def test_a_cancel_comes_before_the_next_block(engine, record, family, out):
    job = job_of(request_of(family), record)
    denoiser = getattr(engine.compute.load(job, family), family.denoiser)
    lists = [child for child in denoiser.children() if isinstance(child, torch.nn.ModuleList)]
    calls = []

    def cancel(*_):
        calls.append("first")
        job.cancel()

    with lists[0][0].register_forward_hook(cancel), pytest.raises(Cancelled):
        run(engine, job)
    assert calls == ["first"]
    assert not files(out)


def test_the_preview_has_the_colours_of_the_familys_latents(engine, record, family, monkeypatch):
    assert len(factors(record, family)) == family.latent.channels + 1
    monkeypatch.setattr(engine.compute, "_options", replace(engine.compute._options, preview_interval_s=1e-9))
    events = run(engine, job_of(request_of(family), record))
    previews = [event.preview for event in events if isinstance(event, StepDone) and event.preview]
    side = SIDE // family.latent.scale
    assert [(preview.width, preview.height) for preview in previews] == [(side, side)] * (STEPS - 1)


def test_samplers_of_the_other_kind_are_refused(engine, record, family):
    prediction = prediction_of(record, family)
    stranger = next(row for row in SCHEDULERS if prediction not in row.fits)
    request = request_of(family)
    request = replace(request, sampling=replace(request.sampling, scheduler=stranger.id))
    with pytest.raises(RequestError) as caught:
        run(engine, job_of(request, record))
    assert caught.value.field == "sampling.scheduler"


def test_what_the_family_does_not_support_is_refused(record, family):
    asked = {
        Feature.TRUE_CFG: {"true_cfg_scale": 3.0},
        Feature.SIZE_CONDITIONING: {"size_conditioning": SizeConditioning(crop_top=8)},
    }
    for feature, change in asked.items():
        found = problems(request_of(family, **change), record, family)
        assert [problem.field for problem in found] == [*change] * (feature not in family.supports)


# Equal pixels


def bare(record: ModelRecord, family: Family, request: GenerationRequest, task: Task = Task.TEXT) -> Any:
    """The plain pipeline with the request's sampler."""
    build = getattr(diffusers, family.pipelines[task])
    pipe = build.from_pretrained(record.path, dtype=torch.float32, local_files_only=True, **family.fixed)
    row = scheduler_by_id(request.sampling.scheduler)
    pipe.scheduler = getattr(diffusers, row.class_name).from_config(
        pipe.scheduler.config, **dict(row.options)
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain_call(request: GenerationRequest) -> dict[str, Any]:
    return {
        "prompt": request.prompt.text,
        "width": request.size.width,
        "height": request.size.height,
        "num_inference_steps": request.sampling.num_inference_steps,
        "guidance_scale": request.sampling.guidance_scale,
        "generator": torch.Generator("cpu").manual_seed(request.sampling.seed),
    }


def assert_same(engine, record, family: Family, request: GenerationRequest, **more: Any) -> None:
    expected = bare(record, family, request)(**plain_call(request), **more).images[0]
    assert np.array_equal(drawn(engine, request, record)[0], np.asarray(expected))


def test_the_pixels_are_those_of_the_plain_pipeline(engine, record, family):
    assert_same(engine, record, family, request_of(family), **_LENGTH.get(family.text, {}))


# What the plain call must be told of the text, by TextScheme.
_LENGTH: dict[str, dict[str, Any]] = {TextScheme.CLIP_T5: {"max_sequence_length": T5_LENGTH}}


def test_sdxl_pixels_with_a_negative_prompt_sizes_and_crop(engine, records):
    sdxl = by_id("sdxl")
    told = SizeConditioning(
        original=Size(width=80, height=96), target=Size(width=72, height=64), crop_left=8, crop_top=16
    )
    request = request_of(sdxl, size_conditioning=told)
    request = dataclasses.replace(request, prompt=Prompt(text="a red circle", negative="blue"))
    sizes = {"original_size": (96, 80), "target_size": (64, 72), "crops_coords_top_left": (16, 8)}
    assert_same(engine, records["sdxl"], sdxl, request, negative_prompt="blue", **sizes)
    plain = drawn(engine, replace(request, size_conditioning=SizeConditioning()), records["sdxl"])[0]
    assert not np.array_equal(plain, drawn(engine, request, records["sdxl"])[0])


def test_a_long_sdxl_prompt_is_read_in_chunks_by_both_encoders(engine, records):
    job = job_of(request_of(by_id("sdxl"), text="y" * 150), records["sdxl"])
    family = by_id("sdxl")
    call = engine.compute.encode(job, engine.compute.load(job, family), family).call
    assert call["prompt_embeds"].shape == call["negative_prompt_embeds"].shape == (1, 154, 40)
    assert call["pooled_prompt_embeds"].shape == (1, 20)
    assert not call["negative_prompt_embeds"].any(), "no negative prompt is zeros, as SDXL learned it"


def test_the_sdxl_vae_decodes_in_float32_where_it_says_so(engine, records, monkeypatch):
    from pipelines.runtime import decoding

    monkeypatch.setattr(devices, "computes_in", lambda *_: True)
    monkeypatch.setattr(engine.compute._loader, "_dtype", "float16")
    family, seen = by_id("sdxl"), []
    job = job_of(request_of(family), records["sdxl"])
    model = engine.compute.load(job, family)
    monkeypatch.setattr(
        decoding, "_with_room", lambda pipe, *_: seen.append(pipe.vae.dtype) or torch.zeros(1, 3, 8, 8)
    )
    (source,) = engine.compute.cast(job, engine.compute.roles(job, family), [model])
    pipe = engine.compute.phases(job, [source])[0].pipe
    decoding.decode(pipe, torch.zeros(1, 4, 8, 8), job, print, family.latent)
    assert (seen, model.vae.dtype) == ([torch.float32], torch.float16)


def test_flux_pixels_with_guidance_true_cfg_and_a_moving_shift(engine, records):
    flux, record = by_id("flux"), records["flux"]
    request = replace(request_of(flux), size=Size(width=128, height=96), true_cfg_scale=3.0)
    request = replace(request, prompt=Prompt(text="a red circle", negative="blue"))
    more = {"negative_prompt": "blue", "true_cfg_scale": 3.0, **_LENGTH[flux.text]}
    assert_same(engine, record, flux, request, **more)
    pictures = [
        drawn(engine, each, record)[0]
        for each in (
            request,
            replace(request, true_cfg_scale=1.0),
            replace(request, sampling=replace(request.sampling, guidance_scale=9.0)),
        )
    ]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_a_long_flux_prompt_is_cut_with_a_note(engine, records):
    family, record = by_id("flux"), records["flux"]
    model = engine.compute.load(job_of(request_of(family), record), family)
    for text, notes in (("a b c", ()), ("x" * 200, (TOO_LONG,))):
        conditioning = engine.compute.encode(job_of(request_of(family, text), record), model, family)
        assert conditioning.call["prompt_embeds"].shape == (1, T5_LENGTH, 24)
        assert conditioning.notes == notes


def test_flux_tokens_are_counted_by_t5(records):
    assert count_tokens(records["flux"], "a red fox") == TokenCount(used=10, limit=T5_LENGTH - 1)


def test_flux_goes_in_bfloat16_where_the_device_has_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    cuda = torch.device("cuda")
    for family, dtype in (("flux", torch.bfloat16), ("sdxl", torch.float16)):
        assert devices.compute_dtype(cuda, "auto", "float16", by_id(family).half) is dtype


def test_the_preview_weighs_two_calls_as_the_pipeline_does():
    """A denoiser that knows the picture with the prompt, and the noise alone without it."""
    scheduler = build_scheduler(scheduler_by_id("flow_euler"), {}, "flow")
    clean, noise, sigma = torch.rand(1, 16, 4, 4), torch.randn(1, 16, 4, 4), torch.tensor([0.6])
    sample = pack((1 - sigma) * clean + sigma * noise, 2)
    wrong, right = pack(noise * 0, 2), pack(noise - clean, 2)
    weight = 2.0
    rgb = factors(ModelRecord(id="m", path="", title=""), by_id("flux"))
    previewer = Previewer(rgb, scheduler, weight, 1e-9, partial(unpack, patch=2, height=4, width=4))
    for answer in (wrong + (right - wrong) / weight, wrong):
        previewer.named_hook(None, (), {"hidden_states": sample, "timestep": sigma}, (answer,))
    shown = previewer.take()
    assert shown is not None
    off = [abs(a - b) for a, b in zip(shown.rgb, coloured(clean[0], rgb).rgb, strict=True)]
    assert max(off) <= 1
