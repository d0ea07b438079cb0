"""`Fitted`: a model of activations that is corrected by what was measured on this device. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipelines.runtime.activations import Linear
from pipelines.spec.measured import Measured
from pipelines.spec.sizes import Shape

_GIVEN = 1.02


@dataclass(frozen=True, slots=True)
class Fitted:
    """`seen` are those of one family. What was seen is the estimate for as much work.

    What computing takes grows with the work, and no faster than it: so less work takes no more than was seen for the
    next larger, and more work no more than its share of what was seen for the next smaller. The less of both is the
    estimate, and where nothing was seen, `base`. What a stage is given, such as the prompt that was read, is not in it.
    """

    base: Linear
    seen: tuple[Measured, ...] = ()

    def encode(self, shape: Shape) -> int:
        return self._fit("encode", self._bare.encode(shape))

    def denoise(self, shape: Shape) -> int:
        return self._fit("denoise", self._bare.denoise(shape))

    def decode(self, shape: Shape, tile: int) -> int:
        return self._fit("decode", self._bare.decode(shape, tile))

    def of(self, stage: str, shape: Shape, tile: int) -> int:
        """Of a stage by its name."""
        return self._fit(stage, units_of(self.base, stage, shape, tile))

    @property
    def _bare(self) -> Linear:
        return replace(self.base, workspace=0)

    def _fit(self, stage: str, units: int) -> int:
        own = sorted((each.units, each.size_bytes) for each in self.seen if each.stage == stage)
        bounds = [int(_GIVEN * size) for known, size in own if known >= units][:1]
        bounds += [int(_GIVEN * size * units / known) for known, size in own if 0 < known <= units][-1:]
        return min(bounds, default=self.base.workspace + units)


def units_of(base: Linear, stage: str, shape: Shape, tile: int) -> int:
    """As `Measured.units`."""
    bare = replace(base, workspace=0)
    if stage == "decode":
        return bare.decode(shape, tile)
    return bare.encode(shape) if stage == "encode" else bare.denoise(shape)


def with_new(seen: Iterable[Measured], new: Measured) -> tuple[Measured, ...]:
    """The newest of each amount of work counts."""
    same = (new.family, new.stage, new.units)
    return (*(each for each in seen if (each.family, each.stage, each.units) != same), new)
