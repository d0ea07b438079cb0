"""What can go wrong with a download, for a person to read."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.spec.errors import EngineError


class DownloadError(EngineError):
    """It cannot be done like this; another try at once would end the same."""


class LostConnection(DownloadError):
    """Worth another try: the line, the host or the clock was at fault."""


class HostBusy(LostConnection):
    """The host asks to wait; `retry_after_s` None when it does not say how long."""

    def __init__(self, message: str, hint: str, retry_after_s: float | None) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class TokenWanted(DownloadError):
    """`host`, 'huggingface' or 'civitai', lets nobody fetch this without a token, or not with the one it got."""

    def __init__(self, message: str, hint: str, host: str) -> None:
        super().__init__(message, hint)
        self.host = host


class ManyFiles(DownloadError):
    """The source has several, `names`, and one must be chosen."""

    def __init__(self, message: str, hint: str, names: Sequence[str]) -> None:
        super().__init__(message, hint)
        self.names = tuple(names)


class NoRoom(DownloadError):
    """The drive is too full."""
