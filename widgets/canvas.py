"""`Canvas`: one picture under a magnifying glass: zoom at the pointer, pan, drag out as a file."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QMimeData, QPoint, QPointF, QRectF, QSize, Qt, QUrl, Signal
from PySide6.QtGui import (
    QDrag,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QNativeGestureEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QPen,
    QPixmap,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QApplication, QPinchGesture, QSizePolicy, QWidget

from widgets.metrics import L, M
from widgets.plain import name_control

_NOTCH = 1.25  # of the wheel
_LARGEST = 32.0
_KEPT_IN_VIEW = 48  # logical pixels of the picture that panning leaves visible
_PIXELS_SHOW_FROM = 8.0  # from this zoom on a pixel is a square, so that one sees what is there

_NAME = "Picture"
_TIP = (
    "Wheel: zoom at the pointer. Drag: move the picture, or, when all of it is in view, take its file to "
    "another program. Ctrl and drag: always take the file. Double-click: fit or 100 %. "
    "Keys: + and −, 0 for fit, 1 for 100 %, arrows to move."
)


class Canvas(QWidget):
    """`zoom()` is device pixels for each pixel of the picture, 1.0 = 100 %. It starts fitted."""

    zoomChanged = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._image = QImage()
        self._path = ""
        self._scale = 1.0  # logical pixels for each pixel of the picture
        self._origin = QPointF()  # of the picture's corner, in this widget
        self._fitted = True
        self._pressed: QPoint | None = None
        self._space = False
        self._cache: tuple[tuple[int, int, int], QPixmap] | None = None
        name_control(self, _NAME, _TIP)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(120, 120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.grabGesture(Qt.GestureType.PinchGesture)

    def sizeHint(self) -> QSize:
        return QSize(640, 480)

    def set_image(self, image: QImage, path: str = "") -> None:
        """`path` is the file that is dragged out, '' for a preview. A picture of another size is fitted."""
        same_size = image.size() == self._image.size()
        self._image, self._path, self._cache = image, path, None
        if not same_size or self._fitted:
            self.fit()
        self.setAccessibleDescription(f"{image.width()} by {image.height()} pixels")
        self.update()

    def zoom(self) -> float:
        return self._scale * self.devicePixelRatioF()

    def is_fitted(self) -> bool:
        return self._fitted

    def fit(self) -> None:
        """The whole picture, in the middle."""
        self._fitted = True
        self._scale = self._fit_scale()
        self._origin = self._centred()
        self._moved()

    def actual_size(self, at: QPointF | None = None) -> None:
        """100 %: one pixel of the picture is one of the screen; `at` keeps its place."""
        self._set_zoom(1.0, at)

    def zoom_by(self, factor: float, at: QPointF | None = None) -> None:
        """What is under `at` (default: the middle), a point of this widget, stays under it."""
        self._set_zoom(self.zoom() * factor, at)

    def picture_point(self, at: QPointF) -> QPointF:
        """The place in the picture, in its pixels, that lies under `at`."""
        return (at - self._origin) / self._scale

    def _set_zoom(self, zoom: float, at: QPointF | None) -> None:
        if self._image.isNull():
            return
        at = QPointF(self.rect().center()) if at is None else at
        ratio = self.devicePixelRatioF()
        smallest = min(self._fit_scale() * ratio, 1.0) / 2
        scale = min(max(zoom, smallest), _LARGEST) / ratio
        self._origin = at - self.picture_point(at) * scale
        self._scale, self._fitted = scale, False
        self._keep_in_view()
        self._moved()

    def _fit_scale(self) -> float:
        if self._image.isNull():
            return 1.0
        room = self.size() - QSize(2 * L, 2 * L)
        scale = min(room.width() / self._image.width(), room.height() / self._image.height())
        return max(scale, 0.01)

    def _centred(self) -> QPointF:
        drawn = QPointF(self._image.width(), self._image.height()) * self._scale
        return (QPointF(self.width(), self.height()) - drawn) / 2

    def _keep_in_view(self) -> None:
        drawn = self._drawn()
        x = min(max(self._origin.x(), _KEPT_IN_VIEW - drawn.width()), self.width() - _KEPT_IN_VIEW)
        y = min(max(self._origin.y(), _KEPT_IN_VIEW - drawn.height()), self.height() - _KEPT_IN_VIEW)
        self._origin = QPointF(x, y)

    def _drawn(self) -> QRectF:
        return QRectF(self._origin, QSize(self._image.size()).toSizeF() * self._scale)

    def _moved(self) -> None:
        self.update()
        self.zoomChanged.emit(self.zoom())

    def pan(self, by: QPointF) -> None:
        """In logical pixels."""
        self._origin += by
        self._fitted = False
        self._keep_in_view()
        self.update()

    def can_pan(self) -> bool:
        """Whether a part of the picture is out of view."""
        return not QRectF(self.rect()).contains(self._drawn())

    def paintEvent(self, event: QPaintEvent) -> None:
        with QPainter(self) as painter:
            painter.fillRect(self.rect(), self.palette().color(QPalette.ColorRole.Shadow))
            if not self._image.isNull():
                self._paint_picture(painter)
            if self.hasFocus():
                painter.setPen(QPen(self.palette().color(QPalette.ColorRole.Highlight), 2))
                painter.drawRect(self.rect().adjusted(1, 1, -1, -1))

    def _paint_picture(self, painter: QPainter) -> None:
        target = self._drawn()
        if self.zoom() < 1.0:
            painter.drawPixmap(target.toRect().topLeft(), self._reduced(target))
            return
        smooth = self._fitted or self.zoom() < _PIXELS_SHOW_FROM
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smooth)
        seen = target.intersected(QRectF(self.rect()))
        source = QRectF(self.picture_point(seen.topLeft()), seen.size() / self._scale)
        painter.drawImage(seen, self._image, source)

    def _reduced(self, target: QRectF) -> QPixmap:
        """Averaged over all its pixels: a painter reads four of them and lets fine lines flicker."""
        ratio = self.devicePixelRatioF()
        size = (target.size() * ratio).toSize().expandedTo(QSize(1, 1))
        key = (self._image.cacheKey(), size.width(), size.height())
        if self._cache is None or self._cache[0] != key:
            scaled = self._image.scaled(
                size, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
            )
            scaled.setDevicePixelRatio(ratio)
            self._cache = (key, QPixmap.fromImage(scaled))
        return self._cache[1]

    def resizeEvent(self, event: QResizeEvent) -> None:
        if self._fitted:
            self.fit()
        else:
            self._keep_in_view()

    def wheelEvent(self, event: QWheelEvent) -> None:
        touchpad = event.phase() != Qt.ScrollPhase.NoScrollPhase and not event.pixelDelta().isNull()
        zooming = event.modifiers() & Qt.KeyboardModifier.ControlModifier
        if touchpad and not zooming:
            self.pan(QPointF(event.pixelDelta()))
        else:
            self.zoom_by(_NOTCH ** (event.angleDelta().y() / 120), event.position())
        event.accept()

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QNativeGestureEvent):
            if event.gestureType() == Qt.NativeGestureType.ZoomNativeGesture:
                self.zoom_by(1.0 + event.value(), event.position())
                return True
        elif event.type() == QEvent.Type.Gesture:
            pinch = event.gesture(Qt.GestureType.PinchGesture)  # pyright: ignore[reportAttributeAccessIssue]
            if isinstance(pinch, QPinchGesture):
                self.zoom_by(pinch.scaleFactor(), QPointF(self.mapFromGlobal(pinch.centerPoint().toPoint())))
                return True
        return super().event(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() in (Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton):
            self._pressed = event.position().toPoint()
            self._show_cursor()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._pressed is None:
            return
        moved = event.position().toPoint() - self._pressed
        if self._pans(event):
            self._pressed = event.position().toPoint()
            self.pan(QPointF(moved))
        elif moved.manhattanLength() >= QApplication.startDragDistance():
            self._pressed = None
            self.drag_out()

    def _pans(self, event: QMouseEvent) -> bool:
        if self._space or event.buttons() & Qt.MouseButton.MiddleButton:
            return True
        return self.can_pan() and not event.modifiers() & Qt.KeyboardModifier.ControlModifier

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._pressed = None
        self._show_cursor()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if self._fitted:
            self.actual_size(event.position())
        else:
            self.fit()

    def _show_cursor(self) -> None:
        if self._pressed is not None and (self._space or self.can_pan()):
            self.setCursor(Qt.CursorShape.ClosedHandCursor)
        elif self._space:
            self.setCursor(Qt.CursorShape.OpenHandCursor)
        else:
            self.unsetCursor()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = 64.0
        arrows = {
            Qt.Key.Key_Left: QPointF(step, 0),
            Qt.Key.Key_Right: QPointF(-step, 0),
            Qt.Key.Key_Up: QPointF(0, step),
            Qt.Key.Key_Down: QPointF(0, -step),
        }
        key = Qt.Key(event.key())
        if key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom_by(_NOTCH)
        elif key in (Qt.Key.Key_Minus, Qt.Key.Key_Underscore):
            self.zoom_by(1 / _NOTCH)
        elif key == Qt.Key.Key_0:
            self.fit()
        elif key == Qt.Key.Key_1:
            self.actual_size()
        elif key in arrows and self.can_pan():
            self.pan(arrows[key])
        elif key == Qt.Key.Key_Space:
            self._space = True
            self._show_cursor()
        else:
            super().keyPressEvent(event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space and not event.isAutoRepeat():
            self._space = False
            self._show_cursor()
        else:
            super().keyReleaseEvent(event)

    def file_data(self) -> QMimeData | None:
        """The picture's file as other programs take it; None for a preview."""
        if not self._path:
            return None
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(self._path)])
        return data

    def drag_out(self) -> None:
        """Runs until the button is released. The file is copied, never moved."""
        data = self.file_data()
        if data is None:
            return
        drag = QDrag(self)
        drag.setMimeData(data)
        keep, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        drag.setPixmap(QPixmap.fromImage(self._image.scaled(96, 96, keep, smooth)))
        drag.setHotSpot(QPoint(M, M))
        drag.exec(Qt.DropAction.CopyAction)
