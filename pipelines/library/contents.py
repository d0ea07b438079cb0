"""What the readers of the two weight formats have in common: the table of tensors that a header is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

# The largest real ones (FLUX, a LoRA with all its training tags, a language model's words) have 1 to 20 MB.
MAX_HEADER_BYTES = 32_000_000
MAX_SIDES = 8
MAX_TENSORS = 100_000  # ten times those of a LoRA with every layer of SDXL

_TORCH = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8",
    "F8_E5M2": "float8_e5m2",
}


class Damaged(ValueError):
    """The rest of a sentence that begins with the file's name."""


@dataclass(frozen=True, slots=True)
class Contents:
    """`end` is the size in bytes that the file must have at least for its tensors."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    end: int = 0

    @property
    def dtype(self) -> str:
        """Of the most numbers, in torch's words where it has one."""
        amounts = dict.fromkeys(self.dtypes.values(), 0)
        if len(amounts) > 1:
            for name, kind in self.dtypes.items():
                amounts[kind] += count(self.shapes[name])
        most = max(amounts, key=lambda kind: amounts[kind], default="")
        return _TORCH.get(most, most if most[:1] in ("Q", "I") and "_" in most else most.lower())


def count(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
