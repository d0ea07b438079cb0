"""How many bytes a model takes in memory, part by part, and what is drawn with it: what a placement is planned from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipelines.spec.blocks import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A denoiser or a text encoder: `blocks` in their order of compute, and `rest`, the bytes of what is in none.

    `name` is the part's own ('unet', 'text_encoder_2'), `model` an id where a picture has several denoisers.
    """

    name: str
    blocks: tuple[Block, ...] = ()
    rest: int = 0
    model: str = ""

    @property
    def size_bytes(self) -> int:
        return self.rest + sum(block.size_bytes for block in self.blocks)

    def scaled(self, factor: float) -> Network:
        """With the blocks' numbers stored in so much of their bytes; what is in no block stays as it is."""
        blocks = tuple(replace(block, size_bytes=int(block.size_bytes * factor)) for block in self.blocks)
        return replace(self, blocks=blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Bytes as they lie in memory. `denoisers` one after the other, such as a base and its refiner.

    `added` is what lies beside a denoiser while it works: LoRAs, ControlNets and IP-Adapters; `kept` so much of it lies
    there in all other stages too. `seeing` is the largest image encoder, which is asked once before a prompt is read.
    `merged` are the weights that LoRAs change, where those lie a second time, `merged_text` those of them that are text
    encoders'. `widened`: how many times as much text encoders take where the processor computes them.
    """

    encoders: tuple[Network, ...]
    denoisers: tuple[Network, ...]
    vae: int
    added: int = 0
    kept: int = 0
    seeing: int = 0
    merged: int = 0
    merged_text: int = 0
    widened: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is drawn: pixels, how often the denoiser is asked in one pass (2 with a negative prompt), tokens of text,
    and how many ControlNets are asked with it.

    `itemsize` are the bytes of a number that the networks compute with, `vae_itemsize` those of the VAE.
    """

    width: int
    height: int
    branches: int = 1
    tokens: int = 77
    controls: int = 0
    itemsize: int = 2
    vae_itemsize: int = 2

    def scaled(self, factor: float, step: int) -> Shape:
        """A smaller picture of nearly the same form, its sides multiples of `step`."""
        width, height = (max(step, round(side * factor / step) * step) for side in (self.width, self.height))
        return replace(self, width=width, height=height)
