"""`PANELS`: what the left dock holds. A new panel is one row here and its widget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QWidget

from widgets.count_panel import CountPanel
from widgets.metrics import S
from widgets.model_panel import ModelPanel
from widgets.prompt_panel import PromptPanel
from widgets.refiner_panel import RefinerPanel
from widgets.sampling_panel import SamplingPanel
from widgets.size_conditioning_panel import SizeConditioningPanel
from widgets.size_panel import SizePanel
from widgets.speed_panel import SpeedPanel
from widgets.true_cfg_panel import TrueCfgPanel
from widgets.weights_panel import WeightsPanel


@dataclass(frozen=True, slots=True)
class PanelRow:
    """`field` of GenerationRequest that the widget's value() is. It may stand `beside` the one before it.

    Of one that unfolds, its `head` stands there, and the rest of it below.
    """

    field: str
    make: Callable[[], QWidget]
    beside: bool = False


PANELS = (
    PanelRow("prompt", PromptPanel),
    PanelRow("model", ModelPanel),
    PanelRow("weights", WeightsPanel, beside=True),
    PanelRow("size", SizePanel),
    PanelRow("sampling", SamplingPanel),
    PanelRow("true_cfg_scale", TrueCfgPanel),
    PanelRow("size_conditioning", SizeConditioningPanel),
    PanelRow("refiner", RefinerPanel),
    PanelRow("count", CountPanel),
    PanelRow("speed", SpeedPanel, beside=True),
)


def lines_of(panels: Mapping[str, QWidget]) -> list[QWidget]:
    """The panels as they stand below each other."""
    lines: list[QWidget] = []
    for row in PANELS:
        panel = panels[row.field]
        head = getattr(panel, "head", panel)
        lines.append(_pair(lines.pop(), head) if row.beside else head)
        if head is not panel:
            lines.append(panel)
    return lines


def _pair(wide: QWidget, narrow: QWidget) -> QWidget:
    both = QWidget()
    line = QHBoxLayout(both)
    line.setContentsMargins(0, 0, 0, 0)
    line.setSpacing(S)
    line.addWidget(wide, 5, Qt.AlignmentFlag.AlignTop)
    line.addWidget(narrow, 3, Qt.AlignmentFlag.AlignTop)
    return both


def make_panels() -> dict[str, Any]:
    """Widgets with value(), setValue(), valueChanged and set_problems(), by request field."""
    return {row.field: row.make() for row in PANELS}
