"""Every row of SCHEDULERS is built as the engine builds it and samples a case whose answer is known exactly.

The pictures are normal, N(MEAN, SPREAD), so the best possible denoiser is a formula; what a sampler that works
draws with it is normal again, with that mean and about that spread.
"""

from __future__ import annotations

import inspect

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from pipelines.runtime.sampling import build_scheduler
from pipelines.spec.schedulers import BETA, SCHEDULERS, SchedulerRow, find, scheduler_by_id

MEAN, SPREAD = 0.5, 0.2
BETAS = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
# What other samplers' configs hold, and must not come through.
FOREIGN = BETAS | {
    "use_karras_sigmas": True,
    "timestep_spacing": "trailing",
    "algorithm_type": "dpmsolver",
    "solver_order": 3,
    "solver_type": "heun",
    "final_sigmas_type": "sigma_min",
    "skip_prk_steps": False,
    "set_alpha_to_one": True,
    "original_inference_steps": 25,
    "lower_order_final": False,
}
ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
DIFFUSION = [row for row in SCHEDULERS if row.id != "flow_euler"]
LIMITED = [row for row in DIFFUSION if row.min_steps > 1 or row.max_steps < 150]

each_row = pytest.mark.parametrize("row", DIFFUSION, ids=lambda row: row.id)


def alpha_at(timestep: torch.Tensor) -> torch.Tensor:
    """alphas_cumprod, between the whole timesteps too."""
    low = int(timestep)
    part = float(timestep) - low
    return ((1 - part) * ALPHAS[low] + part * ALPHAS[min(low + 1, 999)]).float()


def denoiser(x: torch.Tensor, timestep: torch.Tensor, prediction: str) -> torch.Tensor:
    """E[noise | x], or v of it, for x = sqrt(a) picture + sqrt(1 - a) noise."""
    a = alpha_at(timestep)
    noise = (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * SPREAD**2 + 1 - a)
    picture = (x - (1 - a).sqrt() * noise) / a.sqrt()
    return noise if prediction == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * picture


def sample(row: SchedulerRow, steps: int, prediction: str = "epsilon") -> torch.Tensor:
    scheduler = build_scheduler(row, BETAS, prediction)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, 16, 16, generator=generator) * scheduler.init_noise_sigma
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generator} if takes_generator else {}
    for t in scheduler.timesteps:
        output = denoiser(scheduler.scale_model_input(x, t), t, prediction)
        x = scheduler.step(output, t, x, **extra).prev_sample
    return x


@each_row
def test_a_row_draws_what_the_model_knows(row):
    for prediction in ("epsilon", "v_prediction"):
        drawn = sample(row, 20, prediction)
        assert drawn.mean().item() == pytest.approx(MEAN, abs=0.05), prediction
        # Half to one and a half of the true spread: what 20 steps of the coarser methods reach.
        assert 0.09 < drawn.std().item() < 0.36, prediction


@each_row
def test_nothing_of_another_samplers_config_comes_through(row):
    own, foreign = (build_scheduler(row, config, "epsilon") for config in (BETAS, FOREIGN))
    for name, value in row.options:
        assert foreign.config[name] == value
    for scheduler in (own, foreign):
        scheduler.set_timesteps(10)
    assert torch.equal(own.timesteps, foreign.timesteps)
    if hasattr(own, "sigmas"):
        assert torch.equal(own.sigmas, foreign.sigmas)


@pytest.mark.parametrize("row", LIMITED, ids=lambda row: row.id)
def test_the_fewest_and_the_most_steps_run(row):
    for steps in {row.min_steps, row.max_steps} - {150}:
        drawn = sample(row, steps)
        assert torch.isfinite(drawn).all()
        if not row.id.startswith(("heun", "dpm2")):  # so few steps are too coarse for their second order
            assert drawn.mean().item() == pytest.approx(MEAN, abs=0.1), steps


def test_the_limits_are_where_the_class_fails():
    with pytest.raises(IndexError):
        sample(scheduler_by_id("dpmpp_2m_beta"), 92)
    with pytest.raises(ValueError, match="original_steps"):
        sample(scheduler_by_id("lcm"), 51)
    assert sample(find("Euler"), 1).mean().item() == pytest.approx(
        0, abs=0.05
    )  # still the noise it began with


def test_schedules_of_one_sampler_differ():
    sigmas = []
    for schedule in ("Automatic", "Karras", "Exponential", "Beta", "SGM Uniform"):
        scheduler = build_scheduler(find("Euler", schedule), BETAS, "epsilon")
        scheduler.set_timesteps(10)
        sigmas.append(tuple(scheduler.sigmas.tolist()))
    assert len(set(sigmas)) == 5


@pytest.mark.parametrize("row", [row for row in DIFFUSION if row.schedule == BETA], ids=lambda row: row.id)
def test_beta_spreads_its_steps_evenly_over_both_halves(row):
    scheduler = build_scheduler(row, BETAS, "epsilon")
    scheduler.set_timesteps(20)
    assert scheduler.timesteps.float().mean().item() == pytest.approx(500, abs=50)


def test_diffusers_still_spreads_beta_over_sigma():
    """When this fails, diffusers follows the paper: runtime/beta.py can go."""
    scheduler = EulerDiscreteScheduler(**BETAS, use_beta_sigmas=True)
    scheduler.set_timesteps(20)
    assert scheduler.timesteps.mean().item() > 700


def test_the_flow_row_goes_from_noise_to_the_picture():
    """Rectified flow: x = (1 - s) picture + s noise, and the model answers noise - picture."""
    scheduler = build_scheduler(scheduler_by_id("flow_euler"), {"shift": 3.0}, "flow")
    scheduler.set_timesteps(8)
    assert scheduler.config.shift == 3.0
    picture = torch.full((1, 4, 8, 8), MEAN)
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step(noise - picture, t, x).prev_sample
    assert torch.allclose(x, picture, atol=1e-5)
