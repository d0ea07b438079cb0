"""The two sites with tokens, and which address belongs to which."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pipelines.library.download.errors import DownloadError

HUGGINGFACE, CIVITAI = "huggingface", "civitai"
_PORTS = {"http": 80, "https": 443}
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Hosts:
    """Their base addresses; tests put servers of their own here."""

    huggingface: str = "https://huggingface.co"
    civitai: str = "https://civitai.com"

    def token_name(self, url: str) -> str:
        """Whose token goes with `url`: 'huggingface', 'civitai', or '' when none does."""
        for name in (HUGGINGFACE, CIVITAI):
            if origin(url) == origin(getattr(self, name)):
                return name
        return ""


def checked(url: str) -> SplitResult:
    """The parts of a web address. Raises DownloadError for what is none, or holds a password."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in _PORTS and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        parts, known = None, False
    if parts is None or not known or _CONTROL.search(url):
        raise DownloadError(f"'{without_secrets(url)[:100]}' is no web address.", "It begins with https://")
    if parts.username is not None or parts.password is not None:
        raise DownloadError(
            f"The address of {parts.hostname} holds a user name or a password.",
            "Take the part before the @ out; tokens go into the system keyring.",
        )
    return parts


def origin(url: str) -> tuple[str, str, int]:
    parts = checked(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]


def host_of(url: str) -> str:
    return checked(url).hostname or ""


_SECRET = re.compile(r"token|key|secret|sign|password|auth|credential|policy", re.IGNORECASE)


def without_secrets(url: str) -> str:
    """`url` as it may be shown and written down: a query that could open a door is left out."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0]
    if not _SECRET.search(parts.query):
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    kept = [pair for pair in parts.query.split("&") if not _SECRET.search(pair.partition("=")[0])]
    return urlunsplit(
        parts._replace(netloc=parts.netloc.rpartition("@")[2], query="&".join(kept), fragment="")
    )
