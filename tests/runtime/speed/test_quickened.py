"""Jobs with the switches on, through the whole engine: the picture, what is told beside it, and what is left behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.library.folders import demo_root
from pipelines.library.models import record_of
from pipelines.runtime.speed import compiler
from pipelines.spec.errors import Cancelled, RequestError
from pipelines.spec.events import ImageSaved, StepDone
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.request import GenerationRequest, LoraInput, Prompt, Size, Speed
from tests.runtime.conftest import job_of, run

FLUX = record_of(demo_root() / "flux")
OFF = Speed()
STEPS = 8
pytestmark = pytest.mark.usefixtures("by_dynamo_alone")


def flux(speed: Speed = OFF, *, number: int = 1, count: int = 1, steps: int = STEPS, **more: Any) -> Job:
    sampling = replace(FLUX.sampling or by_id("flux").sampling, num_inference_steps=steps, seed=5)
    request = GenerationRequest(
        model=FLUX.id, prompt=Prompt(text="a large red circle on a blue background"), sampling=sampling,
        size=Size(width=128, height=128), count=count, speed=speed, **more,
    )  # fmt: skip
    return Job(id=number, request=request, model=FLUX)


def drawn(
    engine: Any, job: Job, on_event: Any = lambda event: None
) -> tuple[list[np.ndarray], list[ImageSaved]]:
    saved = [event for event in run(engine, job, on_event) if isinstance(event, ImageSaved)]
    return [np.asarray(Image.open(event.path)).astype(float) for event in saved], saved


def switched(job: Job, **on: Any) -> Job:
    return replace(job, request=replace(job.request, speed=Speed(**on)))


def denoiser_of(engine: Any, job: Job) -> Any:
    family = by_id(job.model.family)
    return getattr(engine.compute.load(job, family), family.denoiser)


def state(network: Any) -> Any:
    """All that a switch could leave behind."""
    weights = {name: (p.stride(), p.clone()) for name, p in network.named_parameters()}
    own = {name: sorted(module.__dict__) for name, module in network.named_modules()}
    hooks = {
        name: len(module._forward_hooks) + len(module._forward_pre_hooks)
        for name, module in network.named_modules()
    }
    return weights, own, hooks


@pytest.mark.parametrize("switch", ["compile", "channels_last", "fused_qkv"])
def test_a_switch_draws_the_same_but_for_rounding_and_leaves_the_model_as_it_was(engine, tiny_model, switch):
    job = job_of(tiny_model)
    (plain,), _ = drawn(engine, job)
    network = denoiser_of(engine, job)
    weights, own, hooks = state(network)
    (quick,), (saved,) = drawn(engine, switched(job, **{switch: True}))
    assert np.abs(quick - plain).max() <= 1
    assert not any("left out" in mark for mark in saved.marks)
    after, own_after, hooks_after = state(network)
    assert (own_after, hooks_after) == (own, hooks)
    assert all(
        after[name][0] == strides and torch.equal(after[name][1], w) for name, (strides, w) in weights.items()
    )
    (again,), _ = drawn(engine, job)
    assert np.array_equal(again, plain)


def calls_of(network: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one at each call of the attention of the last block, which a step that is left out does not ask."""
    called = list[int]()
    attention = network.single_transformer_blocks[-1].attn
    plain = attention.forward
    monkeypatch.setattr(
        attention, "forward", lambda *args, **named: (called.append(1), plain(*args, **named))[1]
    )
    return called


@pytest.mark.parametrize(("cache", "limit"), [("first_block", 0.3), ("taylorseer", 3.0)])
def test_a_step_cache_leaves_steps_out_and_draws_nearly_the_same(engine, monkeypatch, cache, limit):
    (plain,), _ = drawn(engine, flux())
    called = calls_of(denoiser_of(engine, flux()), monkeypatch)
    (quick,), _ = drawn(engine, flux(Speed(step_cache=cache, cache_limit=limit)))
    assert 2 <= len(called) < STEPS
    assert 0 < np.abs(quick - plain).mean() < 20
    asked = len(called)
    (again,), _ = drawn(engine, flux(Speed(step_cache=cache, cache_limit=limit)))
    assert np.array_equal(again, quick), "what was seen of another picture is not believed"
    assert len(called) == 2 * asked
    (after,), _ = drawn(engine, flux())
    assert np.array_equal(after, plain)
    assert len(called) == 2 * asked + STEPS


def test_magcache_measures_a_model_that_nobody_has_measured_and_then_leaves_steps_out(
    engine, monkeypatch, capfd
):
    on = Speed(step_cache="magcache", cache_limit=0.3)
    (plain,), _ = drawn(engine, flux())
    called = calls_of(denoiser_of(engine, flux()), monkeypatch)
    pictures, saved = drawn(engine, flux(on, count=2))
    assert np.array_equal(pictures[0], plain)
    assert any("MagCache measured this model" in mark for mark in saved[0].marks)
    assert saved[1].marks == ()
    assert STEPS < len(called) < 2 * STEPS
    assert capfd.readouterr().out == ""
    engine.compute._denoising.magnitudes.known.clear()


def test_a_picture_of_one_step_is_no_measurement_for_one_of_many(engine):
    on = Speed(step_cache="magcache")
    (plain,), _ = drawn(engine, flux())
    drawn(engine, flux(on, steps=1))
    (measured,), (saved,) = drawn(engine, flux(on))
    assert np.array_equal(measured, plain)
    assert any("MagCache measured this model" in mark for mark in saved.marks)
    assert len(engine.compute._denoising.magnitudes.known[FLUX.id]) == STEPS
    _, (saved,) = drawn(engine, flux(on, steps=STEPS // 2))
    assert saved.marks == ()
    engine.compute._denoising.magnitudes.known.clear()


def test_a_cancelled_measurement_is_not_kept(engine):
    job = flux(Speed(step_cache="magcache"))

    def cancel(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            job.cancel()

    with pytest.raises(Cancelled):
        run(engine, job, cancel)
    assert engine.compute._denoising.magnitudes.known == {}
    assert not denoiser_of(engine, flux()).is_cache_enabled


def test_a_cancel_in_a_compiled_step_comes_before_the_next_block(engine):
    job = switched(flux(), compile=True)
    blocks, asked = denoiser_of(engine, job).single_transformer_blocks, list[str]()
    hooks = [
        blocks[0].register_forward_hook(lambda *_: (asked.append("first"), job.cancel())[0]),
        blocks[1].register_forward_hook(lambda *_: asked.append("second")),
    ]
    try:
        with pytest.raises(Cancelled):
            run(engine, job)
    finally:
        for hook in hooks:
            hook.remove()
    assert asked == ["first"]
    assert all("forward" not in block.__dict__ for block in blocks)


def test_a_machine_without_a_compiler_draws_all_the_same_and_says_so(engine, tiny_model, monkeypatch):
    monkeypatch.setattr(compiler, "why_not", lambda device: "there is no C++ compiler")
    (plain,), _ = drawn(engine, job_of(tiny_model))
    (quick,), (saved,) = drawn(engine, switched(job_of(tiny_model), compile=True))
    assert np.array_equal(quick, plain)
    assert saved.marks == ("Compile blocks was left out: there is no C++ compiler.",)


def test_what_the_weights_come_and_go_for_is_left_out_and_told(engine, tiny_model):
    engine.compute.lodging.house(denoiser_of(engine, job_of(tiny_model)))
    (plain,), _ = drawn(engine, job_of(tiny_model))
    job = switched(job_of(tiny_model), channels_last=True, fused_qkv=True)
    (quick,), (saved,) = drawn(engine, job)
    assert np.array_equal(quick, plain)
    assert [mark.partition(" was left out")[0] for mark in saved.marks] == [
        "Fused attention inputs",
        "Channels last",
    ]


def test_fused_inputs_beside_a_lora_are_refused_before_anything_is_loaded(engine):
    job = switched(flux(loras=(LoraInput(model="ink"),)), fused_qkv=True)
    loads = engine.compute.store.loads
    with pytest.raises(RequestError):
        run(engine, job)
    assert engine.compute.store.loads == loads


def test_a_cache_around_compiled_blocks_draws_as_it_does_around_plain_ones(engine):
    on = Speed(step_cache="first_block", cache_limit=0.3)
    (plain,), _ = drawn(engine, flux(on))
    (quick,), (saved,) = drawn(engine, flux(replace(on, compile=True)))
    assert saved.marks == ()
    assert np.abs(quick - plain).max() <= 2
