"""What a host's refusal means for a person."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from pipelines.library.download.errors import DownloadError, HostBusy, LostConnection, TokenWanted
from pipelines.library.download.hosts import CIVITAI, HUGGINGFACE, Hosts
from pipelines.spec.downloads import duration_text

if TYPE_CHECKING:
    from pipelines.library.download.client import Answer

TITLES = {HUGGINGFACE: "Hugging Face", CIVITAI: "Civitai"}
TOKEN_PAGES = {HUGGINGFACE: "huggingface.co/settings/tokens", CIVITAI: "civitai.com/user/account"}
_LATER = "Try again later; what has come so far is kept."


def refusal(answer: Answer, what: str, hosts: Hosts, status: int = 0) -> DownloadError:
    """The error for an answer that is not the file: `what` was asked for, in words. `status` overrides its own."""
    status = status or answer.status
    name, host = hosts.token_name(answer.url), answer.host
    if status in (401, 403) and name:
        return _token_wanted(name, host, what, status, answer.token)
    if status in (401, 403):
        return DownloadError(
            f"{host} does not give {what} to everybody ({status}).", "Fetch it with your browser."
        )
    if status in (404, 410):
        return DownloadError(f"{host} has no {what} ({status}).", "Check how it is spelled.")
    if status == 429 or (status == 503 and answer.headers.get("Retry-After")):
        wait = retry_after(answer.headers.get("Retry-After", ""))
        when = f" for {duration_text(wait)}" if wait else ""
        return HostBusy(f"{host} asks to wait{when} ({status}).", _LATER, wait)
    if status >= 500:
        return LostConnection(f"{host} has a fault of its own ({status}).", _LATER)
    return DownloadError(f"{host} refuses {what} ({status}).", "Look at its page in your browser.")


def _token_wanted(name: str, host: str, what: str, status: int, sent: bool) -> DownloadError:
    title = TITLES[name]
    if not sent:
        hint = f"Make one at {TOKEN_PAGES[name]} and enter it as the token of {title}."
        return TokenWanted(f"{host} gives {what} only to those with a token ({status}).", hint, name)
    if status == 401:
        hint = f"Make a new one at {TOKEN_PAGES[name]} and enter it as the token of {title}."
        return TokenWanted(f"{host} does not accept the token ({status}).", hint, name)
    hint = f"Accept its licence on its page at {host}, and let the token read it."
    return TokenWanted(f"{host} does not let the owner of this token have {what} ({status}).", hint, name)


def retry_after(text: str) -> float | None:
    """Seconds, from a number or a date; None for what is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), 7 * 86_400.0)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError):
        return None
