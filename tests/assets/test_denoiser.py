"""What the recipes' loss counts, and what a UNet begins with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from assets.demo.recipes import denoiser, sd_v, unets

Z = torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(1))
NOISE = torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(2))
EPSILON = DDPMScheduler(**denoiser.SCHEDULE)
OF_VELOCITY: dict[str, Any] = {**denoiser.SCHEDULE, "prediction_type": "v_prediction"}
VELOCITY = DDPMScheduler(**OF_VELOCITY)


def answer_with(schedule: DDPMScheduler, mistake: float):
    """A model that takes every latent for `mistake` more than it is."""

    def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alphas = schedule.alphas_cumprod[t][:, None, None, None]
        z = Z + mistake
        noise = (noisy - alphas.sqrt() * z) / (1 - alphas).sqrt()
        if schedule.config["prediction_type"] == "epsilon":
            return noise
        return alphas.sqrt() * noise - (1 - alphas).sqrt() * z

    return predict


def loss(schedule: DDPMScheduler, mistake: float, t: int) -> float:
    times = torch.full((8,), t)
    return float(denoiser.loss_of(answer_with(schedule, mistake), schedule, Z, NOISE, times, 1.0))


@pytest.mark.parametrize("schedule", [EPSILON, VELOCITY], ids=["epsilon", "velocity"])
def test_what_is_right_costs_nothing(schedule):
    assert loss(schedule, 0.0, 500) < 1e-6 < loss(schedule, 0.1, 500)


@pytest.mark.parametrize("t", [300, 600, 800])
def test_the_same_mistake_costs_the_same_as_noise_and_as_velocity(t):
    assert loss(VELOCITY, 0.1, t) == pytest.approx(8 * loss(EPSILON, 0.1, t), rel=1e-2)


def test_only_the_subject_slips_and_by_less_than_the_noise():
    mask = torch.zeros(64, 1, 32, 32)
    mask[:, :, 8:16, 8:16] = 1
    torch.manual_seed(3)
    shift = denoiser.slip(mask, torch.full((64,), 0.2))
    assert not (shift * (1 - mask)).any()
    slipped = shift.abs().amax((1, 2, 3)) > 0
    assert 16 < int(slipped.sum()) < 48
    assert 0.01 < float(shift[slipped][:, :, 8:16, 8:16].std()) < 0.2


def test_the_schedule_of_sd_v_ends_in_noise_alone():
    schedule = DDPMScheduler(**sd_v.SCHEDULE)
    noisy = schedule.add_noise(Z, NOISE, torch.full((8,), 999))  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(noisy, NOISE)


def test_a_unet_begins_with_the_finest_levels_of_a_deeper_one(tmp_path):
    known = denoiser.build()
    known.save_pretrained(tmp_path)
    unet = sd_v.build()
    copied = unets.warm(unet, tmp_path)
    assert 0 < copied < unet.num_parameters()
    for here, there in (
        ("up_blocks.2.resnets.1.conv1.weight", "up_blocks.3.resnets.1.conv1.weight"),
        ("down_blocks.0.resnets.0.conv1.weight",) * 2,
        ("conv_out.weight",) * 2,
    ):
        assert torch.equal(unet.get_parameter(here), known.get_parameter(there)), here
