"""`ModelsCells`: paints the cells of the table by hand: through a style sheet Qt takes half a millisecond a cell."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, QRect, QRectF, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPalette, QPixmap
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from widgets.icons import paint_icon
from widgets.metrics import ICON, TONE_ROLES, XS, Tone
from widgets.model_texts import STATE_MARKS
from widgets.models_table import COLUMNS, MUTED, NAME, SIZE, STAR, STATE, ModelsTable

Role = QPalette.ColorRole
PADDING = 9
_ACCENT = TONE_ROLES[Tone.INFO]  # the view's own highlight is the ground of a chosen row
# Numbers, as each `|` of two of Qt's enums takes a hundredth of a millisecond.
_SELECTED = QStyle.StateFlag.State_Selected.value
_LINE = (Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft).value | Qt.TextFlag.TextSingleLine.value
_LINE_RIGHT = (
    Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
).value | Qt.TextFlag.TextSingleLine.value
_SIDE = ICON - 2
_STRIPE = 3


class ModelsCells(QStyledItemDelegate):
    """A whole row is chosen; with the focus in the table it has a stripe at its beginning."""

    def __init__(self, table: ModelsTable) -> None:
        super().__init__(table)
        self._table = table
        self._drawings: dict[tuple[str, str, float], QPixmap] = {}

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        rect: QRect = option.rect  # pyright: ignore[reportAttributeAccessIssue]
        palette: QPalette = option.palette  # pyright: ignore[reportAttributeAccessIssue]
        state = option.state.value  # pyright: ignore[reportAttributeAccessIssue]
        column, entry = index.column(), self._table.entry(index.row())
        chosen = bool(state & _SELECTED)
        if chosen:
            painter.fillRect(rect, palette.color(Role.Light))
        if column == STAR:
            if chosen:
                self._stripe(painter, rect, palette, option)
            favourite = self._table.is_favourite(entry.record.path)
            name, role = ("star-full", _ACCENT) if favourite else ("star", Role.PlaceholderText)
            place = QRect(0, 0, _SIDE, _SIDE)
            place.moveCenter(rect.center())
            self._draw(painter, name, palette.color(role).name(), place.topLeft())
            return
        left = PADDING
        if column == STATE:
            name, tone = STATE_MARKS[entry.record.state]
            at = QPoint(rect.left() + PADDING, rect.center().y() - _SIDE // 2 + 1)
            self._draw(painter, name, palette.color(TONE_ROLES[tone]).name(), at)
            left += _SIDE + XS
        text = COLUMNS[column].text(entry)
        if text:
            muted = column in MUTED or (column == NAME and bool(entry.record.problem))
            painter.setPen(palette.color(Role.PlaceholderText if muted and not chosen else Role.Text))
            self._write(painter, rect.adjusted(left, 0, -PADDING, 0), text, option, column)

    def _write(
        self, painter: QPainter, place: QRect, text: str, option: QStyleOptionViewItem, column: int
    ) -> None:
        metrics: QFontMetrics = option.fontMetrics  # pyright: ignore[reportAttributeAccessIssue]
        mode = Qt.TextElideMode.ElideMiddle if column == NAME else Qt.TextElideMode.ElideRight
        shown = metrics.elidedText(text, mode, place.width())  # names often differ at their ends
        painter.drawText(place, _LINE_RIGHT if column == SIZE else _LINE, shown)

    def _stripe(
        self, painter: QPainter, rect: QRect, palette: QPalette, option: QStyleOptionViewItem
    ) -> None:
        view = option.widget  # pyright: ignore[reportAttributeAccessIssue]
        if view is not None and view.hasFocus():
            stripe = QRect(rect.left(), rect.top(), _STRIPE, rect.height())
            painter.fillRect(stripe, palette.color(_ACCENT))

    def _draw(self, painter: QPainter, name: str, colour: str, at: QPoint) -> None:
        """A drawing is made once for each colour and screen."""
        device = painter.device()
        scale = device.devicePixelRatioF() if device is not None else 1.0
        drawing = self._drawings.get((name, colour, scale))
        if drawing is None:
            drawing = QPixmap(round(_SIDE * scale), round(_SIDE * scale))
            drawing.setDevicePixelRatio(scale)
            drawing.fill(Qt.GlobalColor.transparent)
            with QPainter(drawing) as own:
                own.setRenderHint(QPainter.RenderHint.Antialiasing)
                paint_icon(own, name, QRectF(0, 0, _SIDE, _SIDE), colour)
            self._drawings[name, colour, scale] = drawing
        painter.drawPixmap(at, drawing)
