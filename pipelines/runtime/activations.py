"""What computing takes beside the weights: bytes by the size of the picture. Pure; the numbers are to be fitted.

A network's peak without its weights grows with the cells it computes on, as attention is computed in tiles on every
backend here. The numbers are from published peaks of 1024 × 1024 pixels (FLUX 0.5 GiB, an SDXL branch 0.3 GiB) and,
for the VAE, from the four tensors of 256 channels that its last residual block at full size holds at once.
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

    `reads_text`: the text's tokens are cells like those of the picture. `workspace` is what the libraries of the
    device take for themselves.
    """

    patch: int = 8
    cell: int = 24_000
    reads_text: bool = False
    pixel: int = 2_200
    token: int = 260_000
    workspace: int = 256 * MIB

    def encode(self, shape: Shape) -> int:
        return self.workspace + self._wide(shape.tokens * self.token, shape.itemsize)

    def denoise(self, shape: Shape) -> int:
        cells = (shape.width // self.patch) * (shape.height // self.patch)
        cells += shape.tokens if self.reads_text else 0
        return self.workspace + self._wide(cells * self.cell * shape.branches, shape.itemsize)

    def decode(self, shape: Shape, tile: int) -> int:
        """In tiles, the finished ones wait in float32."""
        pixels = shape.width * shape.height
        whole = pixels if not tile else min(pixels, tile * tile)
        waiting = pixels * 12 if tile else 0
        return self.workspace + self._wide(whole * self.pixel, shape.vae_itemsize) + waiting

    @staticmethod
    def _wide(size: int, itemsize: int) -> int:
        return size * itemsize // 2


UNET = Linear()
FLUX = Linear(patch=16, cell=116_500, reads_text=True)
