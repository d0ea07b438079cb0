"""The log file and the hooks that feed it. The only place that configures logging."""

from __future__ import annotations

import faulthandler
import logging
import logging.handlers
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from PySide6.QtCore import QMessageLogContext, QtMsgType, qInstallMessageHandler

log = logging.getLogger(__name__)
qt_log = logging.getLogger("qt")

FILE_NAME = "emulsion.log"
MAX_BYTES, BACKUPS, MAX_RECORD = 1_000_000, 4, 20_000

# Control characters, and those that turn the direction of text or break the line without being a newline.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SECRETS = (
    re.compile(r"\b(hf_|sk-|ghp_|github_pat_)[A-Za-z0-9_\-]{16,}"),
    re.compile(
        r"(?i)\b(authorization|access[_-]?token|token|api[_-]?key|password|secret)(\W{0,2}[:=]\s*)"
        r"(?:bearer\s+)?[\"']?[^\s\"',]{6,}"
    ),
)


def cleaned(text: str) -> str:
    """One record as it may stand in the file: bounded, no secrets, no home path, no faked line."""
    if len(text) > MAX_RECORD:
        text = f"{text[:MAX_RECORD]} ... ({len(text)} characters)"
    text = _SECRETS[0].sub(r"\1***", text)
    text = _SECRETS[1].sub(r"\1\2***", text)
    home = os.path.expanduser("~")
    if len(home) > 3:
        text = text.replace(home, "~")
    text = _CONTROL.sub(lambda m: f"\\u{ord(m[0]):04x}", text.replace("\r", "\\r"))
    return text.replace("\n", "\n    | ")


class CleanFormatter(logging.Formatter):
    """Foreign text cannot forge a record: each further line of one record starts with a bar."""

    def format(self, record: logging.LogRecord) -> str:
        return cleaned(super().format(record))


_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(folder: Path) -> Path | None:
    """Rotating file of at most 5 MB in `folder`, warnings also to the terminal. None: not writable."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    if sys.stderr is not None:
        terminal = logging.StreamHandler()
        terminal.setLevel(logging.WARNING)
        terminal.setFormatter(CleanFormatter("%(levelname)s %(name)s: %(message)s"))
        root.addHandler(terminal)
    path = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(
            path, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8"
        )
    except OSError as error:
        log.warning("no log file: %s", error)
        return None
    file.setFormatter(CleanFormatter(_LINE))
    root.addHandler(file)
    return path


def install_hooks(on_bug: Callable[[str, str], None]) -> Callable[[], None]:
    """Each uncaught exception goes to the log, then `on_bug(key, summary)`; `key` names its place in code.

    May call from every thread. Returns a function that puts the former hooks back.
    """
    former = (sys.excepthook, threading.excepthook, sys.unraisablehook)

    def seen(
        where: str, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        log.critical("uncaught exception %s\n%s", where, _trace_text(kind, error, trace))
        on_bug(_place(kind, trace), f"{kind.__name__} {where}")

    def in_main(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            former[0](kind, error, trace)
        else:
            seen("in the window", kind, error, trace)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = args.thread.name if args.thread else "?"
            seen(f"in thread {name}", args.exc_type, args.exc_value, args.exc_traceback)

    def unraisable(args: Any) -> None:
        seen("while an object was deleted", args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook, threading.excepthook, sys.unraisablehook = in_main, in_thread, unraisable

    def restore() -> None:
        sys.excepthook, threading.excepthook, sys.unraisablehook = former

    return restore


def _trace_text(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> str:
    try:
        return "".join(traceback.format_exception(kind, error, trace))
    except Exception:  # an exception whose own text cannot be made
        return f"{kind.__name__}\n{''.join(traceback.format_tb(trace))}"


def _place(kind: type[BaseException], trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"{kind.__name__} {frames[-1].filename}:{frames[-1].lineno}" if frames else kind.__name__


_LEVELS = {
    QtMsgType.QtDebugMsg: logging.DEBUG,
    QtMsgType.QtInfoMsg: logging.INFO,
    QtMsgType.QtWarningMsg: logging.WARNING,
    QtMsgType.QtCriticalMsg: logging.ERROR,
    QtMsgType.QtFatalMsg: logging.CRITICAL,
}


def take_qt_messages() -> None:
    """Qt's messages go to the log. A fatal one (no display) ends with one line and exit code 1."""
    qInstallMessageHandler(_qt_message)


def _qt_message(kind: QtMsgType, context: QMessageLogContext, text: str) -> None:
    qt_log.log(_LEVELS.get(kind, logging.WARNING), "%s", text)
    if kind == QtMsgType.QtFatalMsg:
        first = " ".join(text.split())
        if sys.stderr is not None:
            print(f"Emulsion cannot open a window: {first}", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)  # Qt would abort with a core dump after this handler


class CrashFile:
    """Where faulthandler writes when the process dies. One file a process, so two windows do not share it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"crash-{os.getpid()}.txt"
        self._file: IO[str] | None = None

    def left_behind(self) -> list[str]:
        """The texts of earlier processes that ended unexpectedly; their files are renamed or removed."""
        texts = []
        for path in sorted(self._path.parent.glob("crash-*.txt")):
            if path == self._path or _alive(path.stem.removeprefix("crash-")):
                continue
            try:
                text = path.read_text(encoding="utf-8", errors="replace")[:MAX_RECORD]
                path.unlink()
            except OSError:
                continue
            if text.strip():
                texts.append(text)
                log.error("the last run ended unexpectedly\n%s", text)
        return texts

    def open(self) -> None:
        try:
            self._file = self._path.open("w", encoding="utf-8")
        except OSError as error:
            log.warning("no crash file: %s", error)
            return
        faulthandler.enable(self._file)

    def close(self) -> None:
        """After a normal end nothing stays behind."""
        if self._file is not None:
            faulthandler.disable()
            self._file.close()
            self._path.unlink(missing_ok=True)


def _alive(pid: str) -> bool:
    import psutil

    return pid.isdigit() and psutil.pid_exists(int(pid))
