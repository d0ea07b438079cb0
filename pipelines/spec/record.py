"""`ModelRecord`: what the library knows of one model without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipelines.spec.request import Sampling


class Kind(StrEnum):
    CHECKPOINT = "checkpoint"
    LORA = "lora"
    CONTROLNET = "controlnet"
    VAE = "vae"
    EMBEDDING = "embedding"
    IP_ADAPTER = "ip-adapter"
    UNKNOWN = "unknown"  # a weight file that is listed with its reason only

    @property
    def named(self) -> str:
        """With its article, in the field's own spelling."""
        return _NAMED.get(self, f"a {self.value}")


_NAMED = {
    Kind.LORA: "a LoRA",
    Kind.CONTROLNET: "a ControlNet",
    Kind.VAE: "a VAE",
    Kind.EMBEDDING: "an embedding",
    Kind.IP_ADAPTER: "an IP-Adapter",
    Kind.UNKNOWN: "an unknown file",
}


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
    description: str = ""
    problem: str = ""
