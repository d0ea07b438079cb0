"""`ModelRecord`: what the library knows of one model without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipelines.spec.lent_parts import WORDS
from pipelines.spec.request import Sampling


class Kind(StrEnum):
    CHECKPOINT = "checkpoint"
    TRANSFORMER = "transformer"  # a denoiser alone
    UNET = "unet"  # likewise
    LORA = "lora"
    CONTROL_LORA = "control_lora"
    CONTROLNET = "controlnet"
    T2I_ADAPTER = "t2i_adapter"
    IP_ADAPTER = "ip_adapter"
    VAE = "vae"
    TINY_VAE = "tiny_vae"  # a small approximation of a VAE, for previews
    TEXT_ENCODER = "text_encoder"
    IMAGE_ENCODER = "image_encoder"
    EMBEDDING = "embedding"
    UPSCALER = "upscaler"
    OTHER = "other"  # a part of a model of a family that is not supported
    UNKNOWN = "unknown"  # a weight file that is listed with its reason only

    @property
    def named(self) -> str:
        """With its article, in the field's own spelling."""
        return _NAMED.get(self, f"a {self.value}")


_NAMED = {
    Kind.UNET: "a U-Net",
    Kind.LORA: "a LoRA",
    Kind.CONTROL_LORA: "a control LoRA",
    Kind.CONTROLNET: "a ControlNet",
    Kind.T2I_ADAPTER: "a T2I-Adapter",
    Kind.IP_ADAPTER: "an IP-Adapter",
    Kind.VAE: "a VAE",
    Kind.TINY_VAE: "a small VAE for previews",
    Kind.TEXT_ENCODER: "a text encoder",
    Kind.IMAGE_ENCODER: "an image encoder",
    Kind.EMBEDDING: "an embedding",
    Kind.UPSCALER: "an upscaler",
    Kind.OTHER: "a part of a model that is not supported",
    Kind.UNKNOWN: "an unknown file",
}


_DRAWING = (Kind.CHECKPOINT, Kind.TRANSFORMER, Kind.UNET)


class State(StrEnum):
    """Whether a model can be used, and if not, what is the matter with it."""

    READY = "ready"
    INCOMPLETE = "incomplete"
    UNSUPPORTED = "unsupported"
    BROKEN = "broken"
    UNSAFE = "unsafe"


class Format(StrEnum):
    DIFFUSERS = "diffusers"  # a folder with model_index.json
    SINGLE_FILE = "single_file"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """`id` is what requests name; `family` the id of a row in FAMILIES; `problem` is empty when it can be used.

    `native_size` is the side in pixels the model was trained at, 0 when unknown (the family's default holds).
    `sampling` are the model's own defaults; `latent_rgb` and `latent_rgb_bias` its own preview factors, as in
    `LatentFormat`; where they are empty the family's hold. A LoRA has the family of the models that it was made for.
    `control` is the id of a row in `CONTROLS` where the name of a ControlNet says what it follows, `image_encoder` the
    folder of the network that reads pictures for an IP-Adapter.
    `base` is the common word of the family ('flux' for all of FLUX.1, 'sd1/sd2/sdxl' where several fit, 'sd3' for one
    that is not supported), `variant` what it is within it, or which LyCORIS, text encoder or upscaler. `layout` says
    whose names the tensors have, `needs` what a picture takes beside it, `assumed` what nothing in the file says.
    `lacks_words`: T5's list of words is not among the models either.
    `borrowed` are the parts that the file lacks, each with the path of the file or folder that it is taken from.
    `preferred_weight` is the strength at which its maker or user wants a LoRA, 0 when nobody says, and `preview` the
    path of a picture beside the file.
    `state` is what is the matter where `problem` says why it cannot be used. `sharded`: a part is in several files.
    """

    id: str
    path: str
    title: str
    kind: Kind = Kind.CHECKPOINT
    family: str = ""
    format: Format = Format.DIFFUSERS
    dtype: str = ""
    size_bytes: int = 0
    native_size: int = 0
    sampling: Sampling | None = None
    latent_rgb: tuple[tuple[float, float, float], ...] = ()
    latent_rgb_bias: tuple[float, float, float] = (0.5, 0.5, 0.5)
    prediction: str = ""
    control: str = ""
    image_encoder: str = ""
    trigger_words: tuple[str, ...] = ()
    preferred_weight: float = 0.0
    preview: str = ""
    description: str = ""
    problem: str = ""
    state: State = State.READY
    base: str = ""
    variant: str = ""
    layout: str = ""
    quantisation: str = ""
    parameters: int = 0
    sharded: bool = False
    needs: tuple[str, ...] = ()
    lacks_words: bool = False
    assumed: tuple[str, ...] = ()
    borrowed: tuple[tuple[str, str], ...] = ()

    @property
    def lacking(self) -> tuple[str, ...]:
        """What it needs besides, the list of words with it, by the ids of `LENT_PARTS` as far as there is a row."""
        return (*self.needs, WORDS) if self.lacks_words else self.needs

    @property
    def draws(self) -> bool:
        """Whether a picture is made with it; whether now, `problem` tells."""
        return self.kind in _DRAWING
