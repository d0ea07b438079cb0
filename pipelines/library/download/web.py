"""Plans for plain web addresses."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.library.download.answers import refusal
from pipelines.library.download.client import Answer, Client
from pipelines.library.download.control import Control
from pipelines.library.download.errors import DownloadError
from pipelines.library.download.file_names import offered_name, refuse_kind, safe_name
from pipelines.library.download.hosts import host_of
from pipelines.library.download.plan import Plan, PlannedFile
from pipelines.library.download.sources import UrlSource

_NO_HEAD = (400, 401, 403, 404, 405, 501)  # what hosts answer that sign an address for GET alone
_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")


def plan_of(client: Client, source: UrlSource, folder: Path, control: Control, file: str) -> Plan:
    """`file` is the name to keep it under, empty for the host's own. Raises DownloadError."""
    host = host_of(source.url)
    with client.open(source.url, control, method="HEAD") as answer:
        name, size, status = _facts(answer, source.url)
        if status < 400:
            return _plan(source, folder, file or name, size, host)
        if status not in _NO_HEAD:
            raise refusal(answer, "such a file", client.hosts)
    with client.open(source.url, control, {"Range": "bytes=0-0"}) as answer:
        if answer.status not in (200, 206):
            raise refusal(answer, "such a file", client.hosts)
        name, size, _ = _facts(answer, source.url)
        return _plan(source, folder, file or name, size, host)


def _facts(answer: Answer, asked: str) -> tuple[str, int | None, int]:
    """The file's name and size and the answer's status."""
    name = offered_name(answer.headers.get("Content-Disposition", ""), asked, answer.url)
    if answer.status < 400 and not name:
        refuse_page(answer, "what was asked for")
    if answer.status == 206:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        return name, int(found[1]) if found else None, 206
    return name, answer.length(), answer.status


def require_permission(client: Client, url: str, what: str, control: Control) -> None:
    """Raises TokenWanted when the site itself does not let this person have it; what comes later comes later."""
    with client.open(url, control, method="HEAD") as answer:
        if answer.status in (401, 403) and client.hosts.token_name(answer.url):
            raise refusal(answer, what, client.hosts)


def refuse_page(answer: Answer, name: str) -> None:
    """Raises DownloadError for a web page, or a message, in the place of a model."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    low = name.lower()
    page = kind in ("text/html", "application/xhtml+xml")
    message = kind in ("application/json", "application/problem+json") and not low.endswith(".json")
    if page or message:
        what = "a web page" if page else "a message"
        raise DownloadError(
            f"{answer.host} answers with {what} instead of {name}.",
            "Open the address in your browser: you may have to sign in, or it is the address of a page about the file.",
        )


def _plan(source: UrlSource, folder: Path, name: str, size: int | None, host: str) -> Plan:
    if not name:
        text = f"{host} does not say what the file is called."
        raise DownloadError(text, "Give it a name that ends in .safetensors or .gguf.")
    name = safe_name(name)
    refuse_kind(name)
    notes = [f"{host} tells no SHA-256, so only the form of the file can be checked."]
    if source.url.lower().startswith("http:"):
        notes.append("The connection is not encrypted.")
    file = PlannedFile(url=source.url, path=name, size=size)
    return Plan(source=str(source), title=name, folder=folder, files=(file,), notes=tuple(notes))
