"""`SCHEMES`: how the prompts of each `TextScheme` are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from pipelines.runtime.loader import Model
from pipelines.runtime.text import clip, clip_clip, clip_t5
from pipelines.spec.families.base import Family, TextScheme

# Tensors by the argument of the pipeline call that takes them, each [1, ...]; True if the text was cut.
Scheme = Callable[[Model, Family, str], tuple[dict[str, torch.Tensor], bool]]

SCHEMES: Mapping[TextScheme, Scheme] = {
    TextScheme.CLIP: clip.encode,
    TextScheme.CLIP_CLIP: clip_clip.encode,
    TextScheme.CLIP_T5: clip_t5.encode,
}
