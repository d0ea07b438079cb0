"""`PANELS`: what the left dock holds. A new panel is one row here and its widget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtWidgets import QWidget

from widgets.count_panel import CountPanel
from widgets.model_panel import ModelPanel
from widgets.prompt_panel import PromptPanel
from widgets.refiner_panel import RefinerPanel
from widgets.sampling_panel import SamplingPanel
from widgets.size_conditioning_panel import SizeConditioningPanel
from widgets.size_panel import SizePanel
from widgets.true_cfg_panel import TrueCfgPanel
from widgets.weights_panel import WeightsPanel


@dataclass(frozen=True, slots=True)
class PanelRow:
    """`field` of GenerationRequest that the widget's value() is."""

    field: str
    make: Callable[[], QWidget]


PANELS = (
    PanelRow("prompt", PromptPanel),
    PanelRow("model", ModelPanel),
    PanelRow("weights", WeightsPanel),
    PanelRow("size", SizePanel),
    PanelRow("sampling", SamplingPanel),
    PanelRow("true_cfg_scale", TrueCfgPanel),
    PanelRow("size_conditioning", SizeConditioningPanel),
    PanelRow("refiner", RefinerPanel),
    PanelRow("count", CountPanel),
)


def make_panels() -> dict[str, Any]:
    """Widgets with value(), setValue(), valueChanged and set_problems(), by request field."""
    return {row.field: row.make() for row in PANELS}
