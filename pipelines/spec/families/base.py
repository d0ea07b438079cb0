"""The shape of a row in the table of families: data, no code of the family's own elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipelines.spec.request import Sampling, Size


class Task(StrEnum):
    """What is asked of a pipeline; chosen by which inputs a request has."""

    TEXT = "text"
    IMAGE = "image"


class Feature(StrEnum):
    """What a family can do; the window shows the controls of these and no others."""

    NEGATIVE_PROMPT = "negative_prompt"
    GUIDANCE = "guidance"
    LORA = "lora"
    CONTROL = "control"
    IMAGE = "image"


class Prediction(StrEnum):
    """What the denoiser predicts; a scheduler row says which it fits."""

    EPSILON = "epsilon"
    V = "v_prediction"
    FLOW = "flow"


class TextScheme(StrEnum):
    """How a prompt becomes conditioning; one function each in `runtime/text`."""

    CLIP = "clip"
    CLIP_PENULTIMATE = "clip_penultimate"
    CLIP_CLIP = "clip_clip"
    CLIP_T5 = "clip_t5"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFormat:
    """`scale` is pixels per latent cell. `rgb` maps a latent to a preview colour in 0..1.

    `rgb` has `channels` rows of (red, green, blue), `rgb_bias` is added; fitted by regression of pictures on latents.
    """

    channels: int
    scale: int = 8
    rgb: tuple[tuple[float, float, float], ...]
    rgb_bias: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRule:
    """Sides in pixels: `step` is what they must be a multiple of."""

    step: int = 8
    minimum: int = 64
    maximum: int = 2048
    native: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`pipelines` holds diffusers class names by task, so that this package needs no diffusers.

    `classes` are the `_class_name`s of a model_index.json that belong to this family.
    """

    id: str
    name: str
    classes: frozenset[str]
    pipelines: Mapping[Task, str]
    text: TextScheme
    latent: LatentFormat
    prediction: Prediction
    sampling: Sampling
    size: Size
    sizes: SizeRule
    supports: frozenset[Feature]
    required_parts: tuple[str, ...] = field(default=())
