"""What a denoiser predicts; a scheduler row says which it fits."""

from __future__ import annotations

from enum import StrEnum


class Prediction(StrEnum):
    EPSILON = "epsilon"
    V = "v_prediction"
    FLOW = "flow"
