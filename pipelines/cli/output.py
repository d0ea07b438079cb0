"""What the commands print: JSON one object a line, or plain text for people."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any, TextIO

from pipelines.spec.errors import EngineError

# The exit status of every command.
DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


def be_printable() -> None:
    """A terminal that cannot show a character of a title must not cost a picture, nor must none at all."""
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    """For a stream that was closed before the start (`2>&-`, pythonw)."""
    return open(os.devnull, "w", encoding="utf-8")


def json_line(data: dict[str, Any], stream: TextIO | None = None) -> None:
    """ASCII and valid JSON whatever is in `data`: NaN and infinity become null, bytes are left out."""
    print(json.dumps(_plain(data), allow_nan=False), file=stream or sys.stdout, flush=True)


def failure(error: EngineError, as_json: bool) -> None:
    """The last words of a command: `event` failed as JSON on stdout, or a sentence on stderr."""
    if as_json:
        field = getattr(error, "field", "")
        kind = type(error).__name__
        json_line(
            {"event": "failed", "message": error.message, "hint": error.hint, "field": field, "kind": kind}
        )
    else:
        say_error(error.message, error.hint)


def say_error(message: str, hint: str) -> None:
    say(f"Error: {message}")
    if hint:
        say(f"  {hint}")


def say(text: str) -> None:
    """A line for people, on stderr: stdout belongs to the results."""
    print(plain(text), file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Without control characters: a title out of a file must not steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if not isinstance(v, bytes)}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
