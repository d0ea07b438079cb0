"""The Beta schedule over timesteps, as its paper has it and other tools draw it.

Lee et al. 2024, "Beta Sampling is All You Need" (arXiv 2407.12173): the timesteps are quantiles of a Beta distribution
with both parameters 0.6, so that most steps fall at the two ends.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.stats

_SHAPE = 0.6


def over_timesteps(scheduler: Any) -> Any:
    """`scheduler`, whose Beta schedule spreads its steps over timesteps.

    diffusers 0.42 spreads them over sigma, where the lower half of the picture's timesteps is 5 % of the way: ten
    steps end in noise. `test_diffusers_still_spreads_beta_over_sigma` tells when it is mended there.
    """
    scheduler._convert_to_beta = partial(_sigmas, scheduler)
    return scheduler


def _sigmas(scheduler: Any, in_sigmas: Any = None, num_inference_steps: int = 1) -> np.ndarray:
    """[num_inference_steps], descending from the noisiest; `in_sigmas` is how diffusers calls it, and not needed."""
    alphas = scheduler.alphas_cumprod.double().cpu().numpy()
    places = scipy.stats.beta.ppf(1 - np.linspace(0, 1, num_inference_steps, endpoint=False), _SHAPE, _SHAPE)
    trained = np.arange(len(alphas))
    return np.interp(places * trained[-1], trained, np.sqrt((1 - alphas) / alphas))
