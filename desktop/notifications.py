"""`Notifications`: the one place that shows what went wrong: errors on the banner, bugs in a short dialog."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QWidget

from pipelines.spec.errors import EngineError, shortened
from widgets.banner import Banner
from widgets.metrics import Tone

if TYPE_CHECKING:
    from desktop.dialogs.bug import BugDialog

log = logging.getLogger(__name__)

MAX_DIALOGS = 3
MAX_TEXT = 1000  # what a banner can show beside a picture; a hostile file may have a megabyte to say


class Notifications(QObject):
    """`bug` may be called from every thread; each place in the code is shown once, at most three a run."""

    _bug = Signal(str, str)
    bugSeen = Signal()

    def __init__(self, banner: Banner, log_file: Path | None, window: QWidget) -> None:
        super().__init__(window)
        self._banner, self._log_file, self._window = banner, log_file, window
        self._action: Callable[[], object] | None = None
        self._known: set[str] = set()
        self._dialog: BugDialog | None = None
        self._bug.connect(self._show_bug)
        banner.actionTriggered.connect(self._run_action)

    def info(self, text: str, action: str = "", run: Callable[[], object] | None = None) -> None:
        self._show(Tone.INFO, text, action, run)

    def warning(self, text: str, action: str = "", run: Callable[[], object] | None = None) -> None:
        self._show(Tone.WARNING, text, action, run)

    def error(self, text: str, action: str = "", run: Callable[[], object] | None = None) -> None:
        self._show(Tone.ERROR, text, action, run)

    def take_back(self, text: str) -> None:
        """Puts the message away if it is still the one that stands there: it is no longer true."""
        if text and self._banner.text() == text:
            self._banner.put_away()

    def failure(self, error: Exception) -> None:
        """What a task on the I/O lane raised: an expected error is shown, the rest is a bug."""
        if isinstance(error, EngineError):
            self.error(sentences(error.message, error.hint))
        elif isinstance(error, OSError):
            self.error(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        else:
            raise error

    def bug(self, key: str, summary: str) -> None:
        """`key` is the place in the code; the log already has the details."""
        self._bug.emit(key, summary)

    def _show(self, tone: Tone, text: str, action: str, run: Callable[[], object] | None) -> None:
        text = shortened(text, MAX_TEXT)
        log.info("shown to the user: %s", text)
        self._action = run
        self._banner.show_message(tone, text, action)

    @Slot()
    def _run_action(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            self._banner.hide()
            action()

    @Slot(str, str)
    def _show_bug(self, key: str, summary: str) -> None:
        if key in self._known:
            return
        self._known.add(key)
        self.bugSeen.emit()
        if self._dialog is None and len(self._known) <= MAX_DIALOGS:
            from desktop.dialogs.bug import BugDialog

            self._dialog = BugDialog(summary, self._log_file, self._window)
            self._dialog.finished.connect(self._dialog_closed)
            self._dialog.open()

    @Slot()
    def _dialog_closed(self) -> None:
        self._dialog = None


def sentences(message: str, hint: str) -> str:
    """What went wrong, then what to do, with a full stop between them."""
    stop = "" if not message or message[-1] in ".!?:" else "."
    return f"{message}{stop} {hint}".strip()
