"""`PictureModel`: the pictures that were made, newest first, with as many thumbnails as one can look at."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from PySide6.QtCore import (
    QDateTime,
    QLocale,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QStringListModel,
    Qt,
    Signal,
)
from PySide6.QtGui import QImage, QPixmap

from widgets.plain import plain_tooltip

RESTORE = "Restore all settings"
RESTORE_TIP = "Put the prompt, model, size, sampler and seed of this picture back into the window."
_THUMBNAILS_KEPT = 512
_NO_FLAGS = Qt.ItemFlag.NoItemFlags


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """`created` in seconds since 1970; sides in pixels; `marks` as in `ImageSaved`."""

    path: str
    created: float
    width: int
    height: int
    marks: tuple[str, ...] = ()


class PictureModel(QStringListModel):
    """Row 0 is the newest. `thumbnailWanted` asks once for a path; `set_thumbnail` answers.

    The strings are empty. They are there because a view asks rowCount for every row it lays out, and a hundred
    thousand calls of a Python method take 0.2 s, at every new picture.
    """

    thumbnailWanted = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        # Oldest first, so that a new picture is an append and the places in `_at` stay true.
        self._pictures: list[Picture] = []
        self._at: dict[str, int] = {}
        self._thumbnails: OrderedDict[str, QPixmap] = OrderedDict()
        self._asked: set[str] = set()
        # Before any view hears of it, and after the view has chosen another row while the old ones still held.
        self.rowsRemoved.connect(self._forget)

    def set_pictures(self, pictures: list[Picture]) -> None:
        """Newest first, each path once."""
        self._pictures = pictures[::-1]
        self._number()
        self._asked.clear()
        self.setStringList([""] * len(pictures))

    def prepend(self, picture: Picture) -> None:
        """The picture that was just made."""
        self._at[picture.path] = len(self._pictures)
        self._pictures.append(picture)
        self.insertRows(0, 1)

    def remove(self, path: str) -> None:
        """Takes the row away, not the file. A path that is not here changes nothing."""
        row = self.row_of(path)
        if row >= 0:
            self.removeRows(row, 1)

    def _forget(self, _parent: QModelIndex, first: int, last: int) -> None:
        gone = slice(self._from_oldest(last), self._from_oldest(first) + 1)
        for picture in self._pictures[gone]:
            self._thumbnails.pop(picture.path, None)
        del self._pictures[gone]
        self._number()

    def _from_oldest(self, row: int) -> int:
        return len(self._pictures) - 1 - row

    def _number(self) -> None:
        self._at = {picture.path: at for at, picture in enumerate(self._pictures)}

    def picture(self, row: int) -> Picture:
        return self._pictures[self._from_oldest(row)]

    def row_of(self, path: str) -> int:
        """-1 when it is not here."""
        at = self._at.get(path)
        return -1 if at is None else self._from_oldest(at)

    def flags(self, index: QModelIndex | QPersistentModelIndex) -> Qt.ItemFlag:
        """A string list would let its strings be edited."""
        return Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable if index.isValid() else _NO_FLAGS

    def data(
        self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole
    ) -> object:
        """For screen readers and tooltips; the delegate asks `picture` and `thumbnail`."""
        if not index.isValid():
            return None
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return _described(self.picture(index.row()))
        if role == Qt.ItemDataRole.ToolTipRole:
            picture = self.picture(index.row())
            return plain_tooltip(f"{_described(picture)}\n{picture.path}")
        return None

    def thumbnail(self, path: str) -> QPixmap | None:
        """None until it was set; a null pixmap when the picture cannot be read."""
        if path in self._thumbnails:
            self._thumbnails.move_to_end(path)
        return self._thumbnails.get(path)

    def want(self, rows: range) -> None:
        """Asks for the thumbnails of these rows that are neither here nor on their way."""
        for row in rows:
            path = self.picture(row).path
            if path not in self._thumbnails and path not in self._asked:
                self._asked.add(path)
                self.thumbnailWanted.emit(path)

    def set_thumbnail(self, path: str, image: QImage) -> None:
        """A null image says that the file cannot be shown."""
        self._asked.discard(path)
        self._thumbnails[path] = QPixmap.fromImage(image)
        while len(self._thumbnails) > _THUMBNAILS_KEPT:
            self._thumbnails.popitem(last=False)
        row = self.row_of(path)
        if row >= 0:
            self.dataChanged.emit(self.index(row), self.index(row), [Qt.ItemDataRole.DecorationRole])


def _described(picture: Picture) -> str:
    made = QDateTime.fromMSecsSinceEpoch(round(picture.created * 1000))
    text = f"{picture.width} × {picture.height}, {QLocale().toString(made, QLocale.FormatType.ShortFormat)}"
    return "\n".join((text, *(_MARKS.get(mark, mark) for mark in picture.marks)))


_MARKS = {"uniform": "This picture is all one colour: something may have gone wrong."}
