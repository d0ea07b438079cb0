"""The shape of a row in the table of families: data, no code of the family's own elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pipelines.spec.families.file_parts import FilePart
from pipelines.spec.families.prediction import Prediction
from pipelines.spec.families.signs import Signs
from pipelines.spec.request import GenerationRequest, Sampling, Size


class Task(StrEnum):
    """What is asked of a pipeline; chosen by which inputs a request has."""

    TEXT = "text"
    IMAGE = "image"
    CONTROL = "control"  # steered by ControlNets
    REFINE = "refine"  # finish the latents that another model began


class Feature(StrEnum):
    """What a family can do; the window shows the controls of these and no others."""

    NEGATIVE_PROMPT = "negative_prompt"
    GUIDANCE = "guidance"
    TRUE_CFG = "true_cfg"
    SIZE_CONDITIONING = "size_conditioning"
    REFINER = "refiner"
    AESTHETIC_SCORE = "aesthetic_score"
    LORA = "lora"
    CONTROL = "control"
    EMBEDDING = "embedding"
    IP_ADAPTER = "ip_adapter"
    IMAGE = "image"


class TextScheme(StrEnum):
    """How a prompt becomes conditioning; one function each in `runtime/text`."""

    CLIP = "clip"
    CLIP_CLIP = "clip_clip"
    CLIP_T5 = "clip_t5"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFormat:
    """`scale` is pixels per latent cell. `rgb` maps a latent to a preview colour in 0..1.

    `rgb` has `channels` rows of (red, green, blue), `rgb_bias` is added; fitted by regression of pictures on latents.
    `patch` cells a side make one token of the denoiser's input, 1 where it takes the latents as they are.
    Latents of the same `space` mean the same picture. `upcast`: the VAE overflows in float16 where it says so itself.
    """

    space: str
    channels: int
    scale: int = 8
    patch: int = 1
    upcast: bool = False
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
class FolderFacts:
    """What tells the family of a diffusers folder: its class, the parts it has, and their config.json."""

    class_name: str
    parts: frozenset[str] = frozenset()
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCondition:
    """`part` is there (`present`), and where its config says `key` at all, the value fits.

    It is one `among` these and `other_than` those, or in range.
    """

    part: str
    present: bool = True
    key: str = ""
    among: tuple[object, ...] = ()
    other_than: tuple[object, ...] = ()
    least: float = float("-inf")
    most: float = float("inf")

    def misses(self, facts: FolderFacts) -> str:
        """Why the folder does not fulfil this, as part of a sentence; empty when it does."""
        if (self.part in facts.parts) != self.present:
            return f"the part '{self.part}' is {'missing' if self.present else 'there'}"
        value = facts.configs.get(self.part, {}).get(self.key) if self.key else None
        return "" if value is None or self._fits(value) else f"its {self.part} has {self.key} {value!r:.40}"

    def _fits(self, value: object) -> bool:
        if self.among or self.other_than:
            return value not in self.other_than and (not self.among or value in self.among)
        return isinstance(value, int | float) and self.least <= value <= self.most


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOnFacts:
    """What a LoRA, an embedding or a ControlNet shows of the models it goes with.

    `denoiser` is the part it was made for ('unet', 'transformer', empty when it has none), `width` the one that
    `AddOnCondition.widths` speaks of, 0 when it does not show. `told` is the family that its maker names.
    """

    denoiser: str = ""
    width: int = 0
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOnCondition:
    """`base` names what LoRAs and the like are made for; families of one `base` take the same ones.

    `widths`: of the text that a U-Net's cross-attention reads, of the transformer's own tokens; a reduced model has
    another one. `words` are how the metadata of trainers begin to name the base (ss_base_model_version, modelspec).
    """

    base: str
    denoiser: str
    widths: frozenset[int]
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`pipelines` holds diffusers class names by task, so that this package needs no diffusers.

    `classes` are the `_class_name`s of a model_index.json that belong to this family, `detect` what else must hold.
    `add_ons` says which LoRAs and the like go with it, `signs` how its files show themselves, `control_image` the
    argument that takes a control picture.
    `denoiser` is the part that predicts, `counted` the tokenizer whose length limits the prompt, which has at most
    `max_sequence_length` tokens where the model itself does not say.
    `work` are the FLOPs of one evaluation of the published denoiser at the native size, a multiply-add being two.
    `half` is the 16-bit precision the weights were made for.
    `file_parts` are the parts that have weights as they lie in a checkpoint in one file; none: it takes a folder.
    `lent_words` are the tokenizers that no file of weights brings and the program does not ship.
    `fixed` are arguments of the pipeline class that are no parts, `settings` those that a model_index.json may decide;
    `scheduler` are the keys that the pipeline class forces upon every scheduler's config.
    """

    id: str
    name: str
    classes: frozenset[str]
    detect: tuple[KeyCondition, ...] = ()
    add_ons: AddOnCondition
    signs: Signs
    pipelines: Mapping[Task, str]
    text: TextScheme
    control_image: str = "image"
    denoiser: str = "unet"
    counted: str = "tokenizer"
    max_sequence_length: int = 77
    latent: LatentFormat
    prediction: Prediction
    half: str = "float16"
    sampling: Sampling
    size: Size
    sizes: SizeRule
    work: float = 0.0
    supports: frozenset[Feature]
    required_parts: tuple[str, ...] = field(default=())
    file_parts: Mapping[str, FilePart] = field(default_factory=dict)
    lent_words: tuple[str, ...] = ()
    fixed: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, bool] = field(default_factory=dict)
    scheduler: Mapping[str, object] = field(default_factory=dict)

    def misses(self, facts: FolderFacts) -> str:
        """Why a folder is not of this family; empty when it is."""
        if facts.class_name not in self.classes:
            return f"it is a '{facts.class_name[:60]}'"
        return next((reason for c in self.detect if (reason := c.misses(facts))), "")

    def cfg_scale(self, request: GenerationRequest) -> float:
        """The weight of the prompt against the negative one; above 1 the denoiser is asked twice a step."""
        if Feature.TRUE_CFG in self.supports:
            return request.true_cfg_scale
        if {Feature.GUIDANCE, Feature.NEGATIVE_PROMPT} <= self.supports:
            return request.sampling.guidance_scale
        return 1.0
