"""What computing takes beside the weights: bytes by the size of the picture. Pure.

A network's peak without its weights grows with the cells it computes on, as attention is computed in tiles on every
backend here. The numbers are fitted to what the engine's own stages take on networks of true size, counted storage by
storage without arithmetic (python -m tests.benchmarks.truecards --fit): 512 to 1536 pixels a side, one branch and two,
plain and packed weights, whole and in tiles. It is a straight line within 1 %; 3 to 5 % are added, and 10 % for VAEs.
Other numbers need another version in library/measured.py.

Not counted is what the libraries of a device take for themselves: `workspace`. FLUX.1 and an SDXL branch of 1024 x 1024
pixels are said to take 0.43 and 0.27 GiB on an L40S, with it (huggingface.co/datasets/diffusers/benchmarks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipelines.spec.sizes import Shape

MIB = 2**20


class Activations(Protocol):
    """Bytes while a prompt is read, in a step of a denoiser, and while a picture is decoded (0: not in tiles)."""

    def encode(self, shape: Shape) -> int: ...

    def denoise(self, shape: Shape) -> int: ...

    def decode(self, shape: Shape, tile: int) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """Bytes a cell of the denoiser, at two bytes a number; `patch` pixels a side are one cell.

    `reads_text`: the text's tokens are cells like those of the picture. `control` is what a ControlNet gives a cell.
    `layer` is the largest layer of few bits, which is widened while it runs. `workspace` is what the libraries of the
    device take for themselves. `pixel` is three times the 256 channels that a VAE has last at full size.
    """

    patch: int = 8
    cell: int = 17_500
    reads_text: bool = False
    control: int = 5_300
    pixel: int = 1_690
    token: int = 26_000
    layer: int = 0
    workspace: int = 256 * MIB

    def encode(self, shape: Shape) -> int:
        return self.workspace + self._wide(self.layer + shape.tokens * self.token, shape.itemsize)

    def denoise(self, shape: Shape) -> int:
        cells = (shape.width // self.patch) * (shape.height // self.patch)
        cells += shape.tokens if self.reads_text else 0
        each = self.cell + min(shape.controls, 2) * self.control  # of several, what they give is added up
        return self.workspace + self._wide(self.layer + cells * each * shape.branches, shape.itemsize)

    def decode(self, shape: Shape, tile: int) -> int:
        """In tiles, the finished ones wait, and are put together at the end."""
        pixels = shape.width * shape.height
        whole = pixels if not tile else min(pixels, tile * tile)
        waiting = 2 * 3 * pixels * shape.vae_itemsize if tile else 0
        return self.workspace + self._wide(whole * self.pixel, shape.vae_itemsize) + waiting

    @staticmethod
    def _wide(size: int, itemsize: int) -> int:
        return size * itemsize // 2


UNET = Linear()  # SD 1.x and 2.x
SDXL = Linear(cell=12_800, control=4_300, token=116_000, layer=24_000_000)  # a cell as its refiner has it
FLUX = Linear(
    patch=16, cell=108_800, reads_text=True, control=92_000, token=198_000, layer=90_000_000
)  # ControlNets of 5 double and 10 single blocks
