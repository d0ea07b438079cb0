"""`Stored`: a tensor that still lies in its file, and what is to be done with it once it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from pipelines.library.places import Place, Source
from pipelines.library.single_file import PartFile


@dataclass(frozen=True, slots=True)
class Stored:
    """`place` in the file of `source`; `name` is the file's own. `like` has its shape, on the meta device.

    diffusers' converters take it for a tensor: they rename, cut and turn, and no weight is read before its turn.
    """

    name: str
    place: Place
    source: Source
    like: torch.Tensor
    then: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = ()
    steps: tuple[str, ...] = field(
        default=()
    )  # `then` in words, by which two of them are known to be the same

    @property
    def shape(self) -> torch.Size:
        return self.like.shape

    @property
    def ndim(self) -> int:
        return self.like.ndim

    @property
    def T(self) -> Stored:
        return self._after("T", lambda tensor: tensor.T)

    def __getitem__(self, index: Any) -> Stored:
        return self._after(repr(index), lambda tensor: tensor[index])

    def rolled(self, rows: int) -> Stored:
        """The rows that stand first come last."""
        return self._after(f"rolled {rows}", lambda tensor: tensor.roll(-rows, 0))

    def clone(self) -> Stored:
        return self

    def detach(self) -> Stored:
        return self

    def contiguous(self) -> Stored:
        return self

    def made(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the module wants, of the tensor as it is in the file."""
        for step in self.then:
            tensor = step(tensor)
        return tensor

    def _after(self, word: str, step: Callable[[torch.Tensor], torch.Tensor]) -> Stored:
        return Stored(
            self.name, self.place, self.source, step(self.like), (*self.then, step), (*self.steps, word)
        )


def stored(file: PartFile, before: str = "") -> dict[str, Any]:
    """By the names without the file's prefix, with `before` in its place."""
    return {
        before + name: stored_at(real, file.places[real], file.source) for name, real in file.names.items()
    }


def stored_at(name: str, place: Place, source: Source) -> Stored:
    return Stored(name, place, source, torch.empty(place.shape, device="meta"))
