"""`PictureDelegate`: one picture of the film strip in two or three draw calls."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QObject, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPalette, QPen, QPixmap
from PySide6.QtWidgets import QApplication, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from widgets.icons import paint_icon
from widgets.metrics import ICON, RADIUS, TONE_ROLES, XS, Tone
from widgets.picture_model import PictureModel

FRAME = 3


class PictureDelegate(QStyledItemDelegate):
    """`side` is that of the square that a thumbnail fits into, in logical pixels."""

    def __init__(self, side: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.side = side

    def cell(self) -> QSize:
        around = 2 * (XS + FRAME)
        return QSize(self.side + around, self.side + around)

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return self.cell()

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        model = index.model()
        if not isinstance(model, PictureModel):
            return
        picture = model.picture(index.row())
        thumbnail = model.thumbnail(picture.path)
        inside = option.rect.adjusted(XS, XS, -XS, -XS)  # pyright: ignore[reportAttributeAccessIssue]
        palette = QApplication.palette()  # that of the view has its style sheet's background for all grounds
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        frame = _paint_thumbnail(painter, inside.adjusted(FRAME, FRAME, -FRAME, -FRAME), thumbnail, palette)
        if picture.marks:
            _paint_mark(painter, frame, palette)
        self._paint_frame(painter, frame, option, palette)

    def _paint_frame(
        self, painter: QPainter, frame: QRect, option: QStyleOptionViewItem, palette: QPalette
    ) -> None:
        state: QStyle.StateFlag = option.state  # pyright: ignore[reportAttributeAccessIssue]
        if state & QStyle.StateFlag.State_Selected:
            role, width = QPalette.ColorRole.Highlight, 2.5
        elif state & QStyle.StateFlag.State_MouseOver:
            role, width = QPalette.ColorRole.PlaceholderText, 1.0
        else:
            return
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(palette.color(role), width))
        painter.drawRoundedRect(QRectF(frame).adjusted(-2, -2, 2, 2), XS, XS)


def _paint_thumbnail(painter: QPainter, room: QRect, thumbnail: QPixmap | None, palette: QPalette) -> QRect:
    """Returns where the picture lies; a quiet square while it is on its way."""
    if thumbnail is None or thumbnail.isNull():
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(palette.color(QPalette.ColorRole.Button))
        painter.drawRoundedRect(room, RADIUS, RADIUS)
        if thumbnail is not None:
            _paint_small(painter, "broken", room.center().x() - 12, room.center().y() - 12, 24, palette)
        return room
    size = thumbnail.size().scaled(room.size(), Qt.AspectRatioMode.KeepAspectRatio)
    target = QRect(room.topLeft(), size)
    target.moveCenter(room.center())
    painter.drawPixmap(target, thumbnail)
    return target


def _paint_mark(painter: QPainter, frame: QRect, palette: QPalette) -> None:
    badge = QRectF(frame.left() + XS, frame.top() + XS, ICON + XS, ICON + XS)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(palette.color(QPalette.ColorRole.Window))
    painter.drawRoundedRect(badge, XS, XS)
    colour = palette.color(TONE_ROLES[Tone.WARNING]).name()
    paint_icon(painter, "warning", badge.adjusted(2, 2, -2, -2), colour)


def _paint_small(painter: QPainter, name: str, x: int, y: int, side: int, palette: QPalette) -> None:
    colour = palette.color(QPalette.ColorRole.PlaceholderText).name()
    paint_icon(painter, name, QRectF(x, y, side, side), colour)
