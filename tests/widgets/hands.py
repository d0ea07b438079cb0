"""What a hand does that pytest-qt has no call for."""

from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QWidget


def wheel(widget: QWidget, at: QPoint, angle: int) -> None:
    """Turns the wheel by `angle` eighths of a degree, 120 for a notch."""
    place = QPointF(at)
    event = QWheelEvent(
        place,
        QPointF(widget.mapToGlobal(at)),
        QPoint(),
        QPoint(0, angle),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)
