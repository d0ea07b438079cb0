"""What is told along the way: the time that is left, and the previews."""

import math

import pytest
import torch

from pipelines.runtime import preview as previews
from pipelines.runtime.pace import Pace
from pipelines.runtime.preview import Previewer, coloured, factors
from pipelines.runtime.sampling import _step_of, build_scheduler
from pipelines.spec.events import StepDone
from pipelines.spec.families import by_id
from pipelines.spec.schedulers import scheduler_by_id
from tests.runtime.conftest import job_of, record_of, run


def test_the_time_left_covers_all_pictures_with_their_ends():
    now = [0.0]
    pace = Pace(images=2, steps=3, clock=lambda: now[0])

    def step(image, number, seconds):
        now[0] += seconds
        return pace.step_done(image, number)

    pace.picture_starts()
    assert step(0, 1, 9.0) is None, "the first step warms up"
    assert step(0, 2, 1.0) == pytest.approx(
        1 + 3 + 2 * 1
    )  # its last step, the other picture, two ends guessed
    assert step(0, 3, 1.0) == pytest.approx(3 + 2)
    now[0] += 5.0
    pace.picture_done()
    pace.picture_starts()
    assert step(1, 1, 1.0) == pytest.approx(2 + 5)
    assert step(1, 3, 1.0) == pytest.approx(5)


@pytest.mark.parametrize(
    ("calls", "steps", "order", "told"),
    [
        (4, 4, 1, [1, 2, 3, 4]),  # Euler
        (7, 4, 2, [0, 1, 1, 2, 2, 3, 4]),  # Heun: the last step needs one call
        (5, 4, 1, [0, 1, 2, 3, 4]),  # PNDM: one call more to warm up
        (1, 1, 1, [1]),
    ],
)
def test_calls_of_the_denoiser_count_as_steps(calls, steps, order, told):
    assert [_step_of(call, calls, steps, order) for call in range(calls)] == told


def test_latents_become_colours_by_the_factors():
    rgb = torch.tensor([[1.0, 0, 0], [0, 0.5, 0], [0.0, 0.0, 0.2]])  # two channels, then the bias
    latents = torch.tensor([[[0.0, 1.0, 9.0]], [[0.0, 1.0, -9.0]]])
    preview = coloured(latents, rgb)
    assert (preview.width, preview.height) == (3, 1)
    assert list(preview.rgb) == [0, 0, 51, 255, 128, 51, 255, 0, 51]


def test_latents_that_are_no_numbers_give_a_preview_all_the_same():
    assert len(coloured(torch.full((4, 2, 2), math.nan), torch.rand(5, 3)).rgb) == 12


def test_the_models_own_factors_come_before_the_familys(tmp_path):
    family = by_id("sd1")
    assert factors(record_of(tmp_path), family).shape == (5, 3)
    own = ((1.0, 0.0, 0.0),) * 4
    chosen = factors(record_of(tmp_path, latent_rgb=own, latent_rgb_bias=(0.1, 0.2, 0.3)), family)
    assert torch.allclose(chosen, torch.tensor([*own, (0.1, 0.2, 0.3)]))


CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("timestep", [10, 500, 900])
def test_a_preview_shows_what_the_denoiser_takes_for_the_finished_picture(prediction, timestep):
    """A denoiser that is always right: the preview of any step is the finished latents' own colours."""
    scheduler = build_scheduler(scheduler_by_id("ddim"), CONFIG, prediction)
    clean, noise = torch.rand(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    alpha = scheduler.alphas_cumprod[timestep]
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    right = noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    rgb = factors(record_of(__file__), by_id("sd1"))  # pyright: ignore[reportArgumentType]
    previewer = Previewer(rgb, scheduler, guidance_scale=7.0, interval_s=1e-9)
    previewer.hook(None, (noisy.repeat(2, 1, 1, 1), torch.tensor(timestep)), (right.repeat(2, 1, 1, 1),))
    shown = previewer.take()
    assert shown is not None
    off = [abs(a - b) for a, b in zip(shown.rgb, coloured(clean[0], rgb).rgb, strict=True)]
    assert max(off) <= 1


def test_previews_keep_their_distance(engine, tiny_model, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(previews.time, "perf_counter", lambda: now[0])

    def later(event):
        now[0] += 0.03

    events = run(engine, job_of(tiny_model, steps=12), later)
    steps = [event for event in events if isinstance(event, StepDone)]
    shown = [event.step for event in steps if event.preview]
    assert shown == [5, 9], "0.1 s are four steps of 0.03 s"
    assert all(event.preview is None or len(event.preview.rgb) == 8 * 8 * 3 for event in steps)


def test_no_previews_where_none_are_wanted(engine, tiny_model, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr(engine.compute, "_options", replace(engine.compute._options, preview_interval_s=0.0))
    events = run(engine, job_of(tiny_model))
    assert all(event.preview is None for event in events if isinstance(event, StepDone))


def test_a_seed_only_change_pays_for_drawing_alone(engine, tiny_model, monkeypatch):
    """Goal 11 in counters: nothing is loaded, encoded or told of before the first step but the two stages."""
    run(engine, job_of(tiny_model, seed=1))
    loads, encodes = engine.compute.store.loads, engine.compute.prompts.encodes
    run(engine, job_of(tiny_model, seed=2))
    assert engine.compute.store.loads == loads
    assert engine.compute.prompts.encodes == encodes
