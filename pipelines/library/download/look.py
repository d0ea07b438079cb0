"""`look`: what a source offers, as a `Plan`. Asks the host for names and sizes, never for the files themselves."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from pipelines.library.download import civitai, hub, web
from pipelines.library.download.client import Client
from pipelines.library.download.control import Control
from pipelines.library.download.errors import DownloadError
from pipelines.library.download.plan import Plan, require_room
from pipelines.library.download.sources import CivitaiSource, HubSource, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """`file` chooses one of several, by its name or path; `half` takes float16 files of a repository where there are.

    `sha256` in hex is what the person knows of the one file.
    """

    file: str = ""
    half: bool = False
    sha256: str = ""


def look(
    client: Client, source: Source, folder: Path, control: Control, wishes: Wishes | None = None
) -> Plan:
    """Raises DownloadError, among them ManyFiles when one must be chosen, TokenWanted and NoRoom."""
    wishes = wishes or Wishes()
    match source:
        case HubSource():
            plan = hub.plan_of(client, source, folder, control, wishes.file, wishes.half)
        case CivitaiSource():
            plan = civitai.plan_of(client, source, folder, control, wishes.file)
        case _:
            plan = web.plan_of(client, source, folder, control, wishes.file)
    if wishes.sha256:
        plan = _with_sum(plan, wishes.sha256)
    require_room(plan)
    return plan


def checked_sum(text: str) -> str:
    """A SHA-256 as it is compared. Raises DownloadError for anything else."""
    text = text.strip().lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise DownloadError(
            "The SHA-256 is not 64 hexadecimal digits.", "Copy it whole from where the file is."
        )
    return text


def _with_sum(plan: Plan, sha256: str) -> Plan:
    sha256 = checked_sum(sha256)
    if len(plan.files) != 1:
        text = f"A SHA-256 is of one file, and {plan.title} has {len(plan.files)}."
        raise DownloadError(text, "Name the file, or leave the SHA-256 out.")
    (file,) = plan.files
    if file.sha256 and file.sha256 != sha256:
        raise DownloadError(
            f"{plan.title} has the SHA-256 {file.sha256[:12]}… by its host, not {sha256[:12]}… as given.",
            "This is another file than the one you know.",
        )
    return dataclasses.replace(plan, files=(dataclasses.replace(file, sha256=sha256),))
