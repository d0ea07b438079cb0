"""Errors that a person is meant to read. Anything else that is raised is a bug."""

from __future__ import annotations


class EngineError(Exception):
    """An expected failure: `message` says what went wrong with which field, file or value, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


def shortened(value: object, most: int = 60) -> str:
    """A value as it may stand in a message: a picture or a request file can hold a megabyte in any field."""
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


class RequestError(EngineError):
    """The request itself is wrong; `field` is its dotted path, such as `sampling.num_inference_steps`."""

    def __init__(self, field: str, message: str, hint: str = "") -> None:
        super().__init__(f"{field}: {message}", hint)
        self.field = field


class ModelError(EngineError):
    """A model file or folder cannot be used. Its kinds say why, as `State` in record.py has it."""


class BrokenModel(ModelError):
    """It is damaged, or no model at all."""


class IncompleteModel(ModelError):
    """Some of it is missing."""


class UnsafeModel(ModelError):
    """It could run code, so it is not opened."""


class OutOfMemory(EngineError):
    """The device ran out of memory past the last fallback."""


class BadPicture(EngineError):
    """The model answered with NaN or infinity instead of a picture."""


class NotSaved(EngineError):
    """A finished picture could not be written."""


class DeviceLost(EngineError):
    """The device answers every call with an error; only a new worker process helps."""


class Cancelled(Exception):
    """Raised inside a job at a safe point after its `cancel()`; never shown as an error."""
