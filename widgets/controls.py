"""Qt's own controls with this program's manners: quiet under the wheel, the same numbers in every locale."""

from __future__ import annotations

from PySide6.QtCore import QLocale, QPoint, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPalette, QValidator, QWheelEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QStyle,
    QStyleOptionButton,
    QStyleOptionComboBox,
    QStyleOptionSpinBox,
    QStylePainter,
    QToolButton,
    QWidget,
)

from widgets.icons import icon, paint_icon
from widgets.metrics import ICON, XS, M
from widgets.plain import name_control

_CHEVRON = 14


class IconButton(QToolButton):
    """A small button that is only a drawing; its name and tooltip are therefore not optional."""

    def __init__(self, drawing: str, name: str, tooltip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        name_control(self, name, tooltip)
        self.setIcon(icon(drawing))
        self.setIconSize(QSize(ICON, ICON))
        self.setAutoRaise(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)


class Choice(QComboBox):
    """A combo box that may be narrower than its longest row; the wheel does not change it in passing."""

    ELIDE = Qt.TextElideMode.ElideRight

    def __init__(self, name: str, tooltip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        name_control(self, name, tooltip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMaxVisibleItems(16)

    def wheelEvent(self, event: QWheelEvent) -> None:
        _wheel_with_focus(self, event, super().wheelEvent)

    def showPopup(self) -> None:
        longest = self.view().sizeHintForColumn(0) + 2 * ICON
        self.view().setMinimumWidth(max(self.width(), min(longest, 2 * self.width())))
        super().showPopup()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QStylePainter(self)
        with painter:
            option = QStyleOptionComboBox()
            self.initStyleOption(option)
            painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
            option.currentText = self.shown_text()  # pyright: ignore[reportAttributeAccessIssue]
            painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        size = _CHEVRON
        left = self.width() - size - 2 * XS if self.isLeftToRight() else 2 * XS
        _paint_chevron(self, "chevron-down", QRect(left, (self.height() - size) // 2, size, size))

    def shown_text(self) -> str:
        """As much as there is room for: with a style sheet Qt cuts a long text off without saying so."""
        text = self.currentText() if self.currentIndex() >= 0 else self.placeholderText()
        return self.fontMetrics().elidedText(text, self.ELIDE, self.width() - _CHEVRON - 6 * XS)


class Check(QCheckBox):
    """The style sheet draws the box, which leaves the tick to us."""

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self.isChecked():
            option = QStyleOptionButton()
            self.initStyleOption(option)
            box = self.style().subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, option, self)
            with QPainter(self) as painter:
                painter.setRenderHint(QPainter.RenderHint.Antialiasing)
                colour = self.palette().color(QPalette.ColorRole.HighlightedText).name()
                paint_icon(painter, "check", box.adjusted(1, 1, -1, -1), colour)


class NumberField(QSpinBox):
    """A whole number."""

    def __init__(self, name: str, tooltip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _prepare(self, name, tooltip)

    def sizeHint(self) -> QSize:
        return _five_digits(self, super().sizeHint())

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def wheelEvent(self, event: QWheelEvent) -> None:
        _wheel_with_focus(self, event, super().wheelEvent)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        _paint_arrows(self)

    def stepBy(self, steps: int) -> None:
        """From 500 a step of 8 goes to 504, not to 508: it lands on the multiples."""
        single = self.singleStep()
        if remainder := self.value() % single:
            self.setValue(self.value() - remainder + (single if steps > 0 else 0))
            steps -= 1 if steps > 0 else -1
        super().stepBy(steps)


class DecimalField(QDoubleSpinBox):
    """A number that is shown with a point and read with a point or a comma, whatever the locale."""

    def __init__(self, name: str, tooltip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _prepare(self, name, tooltip)

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        return super().validate(text.replace(",", "."), position)

    def valueFromText(self, text: str) -> float:
        return super().valueFromText(text.replace(",", "."))

    def textFromValue(self, value: float) -> str:
        return f"{round(value, self.decimals()):g}"

    def sizeHint(self) -> QSize:
        return _five_digits(self, super().sizeHint())

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def wheelEvent(self, event: QWheelEvent) -> None:
        _wheel_with_focus(self, event, super().wheelEvent)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        _paint_arrows(self)


class Slider(QSlider):
    """A horizontal slider that the wheel moves only once it has the focus."""

    def __init__(self, name: str, tooltip: str, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        name_control(self, name, tooltip)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumWidth(48)

    def wheelEvent(self, event: QWheelEvent) -> None:
        _wheel_with_focus(self, event, super().wheelEvent)


def _prepare(box: QAbstractSpinBox, name: str, tooltip: str) -> None:
    name_control(box, name, tooltip)
    box.setLocale(QLocale.c())
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    box.setAccelerated(True)
    line = box.lineEdit()
    line.setTextMargins(XS + 2, 0, 0, 0)  # a style sheet's padding does not reach it
    line.setAccessibleName(name)
    line.setToolTip(box.toolTip())


def _five_digits(box: QAbstractSpinBox, hint: QSize) -> QSize:
    """Qt asks for more than twice the room of the number."""
    return QSize(box.fontMetrics().horizontalAdvance("00000") + 2 * _CHEVRON + M, hint.height())


def _wheel_with_focus(widget: QWidget, event: QWheelEvent, turn: object) -> None:
    """A wheel that scrolls the dock must not change the values that pass under it."""
    if widget.hasFocus() and callable(turn):
        turn(event)
    else:
        event.ignore()


def _paint_arrows(box: QAbstractSpinBox) -> None:
    option = QStyleOptionSpinBox()
    box.initStyleOption(option)
    spin = QStyle.ComplexControl.CC_SpinBox
    for drawing, part in (
        ("chevron-up", QStyle.SubControl.SC_SpinBoxUp),
        ("chevron-down", QStyle.SubControl.SC_SpinBoxDown),
    ):
        rect = box.style().subControlRect(spin, option, part, box)
        square = QRect(0, 0, _CHEVRON - 2, _CHEVRON - 2)
        square.moveCenter(rect.center() + QPoint(0, 0))
        _paint_chevron(box, drawing, square)


def _paint_chevron(widget: QWidget, drawing: str, rect: QRect) -> None:
    active = QPalette.ColorGroup.Active if widget.isEnabled() else QPalette.ColorGroup.Disabled
    colour = widget.palette().color(active, QPalette.ColorRole.PlaceholderText)
    with QPainter(widget) as painter:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        paint_icon(painter, drawing, QRectF(rect), colour.name())
