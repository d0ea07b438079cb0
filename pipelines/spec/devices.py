"""What the devices and `dtype` of `EngineOptions` may be called; whether a device is there shows in the engine."""

from __future__ import annotations

import re

# ROCm's cards answer to 'cuda' in torch.
KNOWN = "auto, cpu, cuda, cuda:1, xpu, mps, directml"
DTYPES = ("auto", "float32", "float16", "bfloat16")
_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu|directml)(:[0-9]{1,3})?")


def is_encoders_device(text: str) -> bool:
    """Empty for the device of the rest; 'auto' would be that one as well."""
    return not text or (is_device(text) and text != "auto")


def is_device(text: str) -> bool:
    return _DEVICE.fullmatch(text) is not None
