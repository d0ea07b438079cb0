"""The spacing scale, the type scale, and the three tones that a message can have."""

from __future__ import annotations

from enum import Enum, StrEnum

from PySide6.QtGui import QFont, QPalette

# Distances in logical pixels.
XS, S, M, L, XL = 4, 8, 12, 16, 24

RADIUS = 6
ICON = 18


class TextSize(Enum):
    """Ratios of the type scale 11/13/15/20 to the application's own font, so that large fonts stay large."""

    SMALL = 11 / 13
    BODY = 1.0
    TITLE = 15 / 13
    LARGE = 20 / 13


class Tone(StrEnum):
    """What a message means to the reader."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# QPalette has no roles for warning and error. These two are used by nothing else in this program, so the
# palette stays the only way that colours come to the widgets.
TONE_ROLES = {
    Tone.INFO: QPalette.ColorRole.Link,
    Tone.WARNING: QPalette.ColorRole.LinkVisited,
    Tone.ERROR: QPalette.ColorRole.BrightText,
}


def sized(font: QFont, size: TextSize, *, bold: bool = False) -> QFont:
    """A copy of the application's `font` on the type scale."""
    copy = QFont(font)
    if copy.pixelSize() > 0:
        copy.setPixelSize(round(copy.pixelSize() * size.value))
    else:
        copy.setPointSizeF(copy.pointSizeF() * size.value)
    if bold:
        copy.setWeight(QFont.Weight.DemiBold)
    return copy
