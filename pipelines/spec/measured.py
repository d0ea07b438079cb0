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
