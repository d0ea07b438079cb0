"""`PREPROCESSORS`: what draws a control picture from a plain one, by the ids that `spec/controls.py` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PIL import Image

from pipelines.runtime.preprocess.canny import canny

# An RGB picture -> an RGB picture of the same size.
PREPROCESSORS: Mapping[str, Callable[[Image.Image], Image.Image]] = {"canny": canny}
