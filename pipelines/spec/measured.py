"""What computing took on a device, beside the estimate that was made of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`stage` 'encode', 'denoise' or 'decode' of a model of `family`; `size_bytes` was seen.

    `units` grow with the work: bytes as the model of activations has them, without what libraries take for themselves.
    """

    family: str
    stage: str
    units: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a device can do in a second: bytes that come to it from pinned RAM, and work on 16-bit matrices.

    A multiply-add counts two. 0 where it was not measured.
    """

    copied: float
    flops: float = 0.0
