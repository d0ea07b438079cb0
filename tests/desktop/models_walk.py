"""A walk over the Models page, a turn of the event loop after each thing done: typed at, sorted, chosen, scrolled."""

from __future__ import annotations

from typing import Any

from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from widgets.model_entries import ModelFilter

LINES, ROWS = 50, 1000


def walk(page: Any) -> None:
    """`page` is the window's, with all of its models listed."""
    for text in ("v", "ve", "velvet", "velvet sdxl", ""):
        page.bar.search.setText(text)
        QApplication.processEvents()
    for column in range(page.table.columnCount()):
        page.view._sort(column)
        QApplication.processEvents()
    page.setValue(ModelFilter(family="SDXL"))
    bar = page.view.verticalScrollBar()
    for step in range(LINES):
        bar.setValue(bar.maximum() * step // LINES)
        QApplication.processEvents()
    for row in range(0, min(ROWS, page.table.rowCount()), 50):
        page.view.choose(page.table.entry(row).record.path)
        QApplication.processEvents()
    page.clear_filter()
    QApplication.processEvents()
    for letter in "amber fl":
        QTest.keyClicks(page.bar.search, letter)
        QApplication.processEvents()
