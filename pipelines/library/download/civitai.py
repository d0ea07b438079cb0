"""Plans for versions of models on Civitai (its public REST API, /api/v1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.library.download.client import Client
from pipelines.library.download.control import Control
from pipelines.library.download.errors import DownloadError, ManyFiles
from pipelines.library.download.file_names import refuse_kind, safe_name
from pipelines.library.download.hosts import host_of, origin
from pipelines.library.download.plan import Plan, PlannedFile
from pipelines.library.download.sources import CivitaiSource
from pipelines.library.download.web import require_permission
from pipelines.library.header import WEIGHTS


def plan_of(client: Client, source: CivitaiSource, folder: Path, control: Control, file: str) -> Plan:
    """`file` is the name of one of the version's files, empty for its main one. Raises DownloadError."""
    version = source.version or _newest(client, source.model, control)
    address = f"{client.hosts.civitai}/api/v1/model-versions/{version}"
    data, _ = client.json(address, control, f"version {version}")
    files = [each for each in _list(data, "files") if isinstance(each.get("name"), str)]
    if not files:
        raise DownloadError(f"Version {version} has no files.", "Look at its page in your browser.")
    chosen = _chosen(files, file, version)
    name = safe_name(chosen["name"])
    refuse_kind(name)
    sha256 = str((chosen.get("hashes") or {}).get("SHA256") or "").lower()
    planned = PlannedFile(
        url=_address(client, chosen, version),
        path=name,
        size=_bytes(chosen.get("sizeKB")),
        exact=False,
        sha256=sha256 if len(sha256) == 64 else "",
    )
    require_permission(client, planned.url, name, control)
    title = f"{_text(data.get('model'))} {data.get('name') or ''}".strip()[:120] or name
    notes = (
        () if planned.sha256 else ("Civitai tells no SHA-256, so only the form of the file can be checked.",)
    )
    return Plan(source=f"civitai:{version}", title=title, folder=folder, files=(planned,), notes=notes)


def _newest(client: Client, model: int, control: Control) -> int:
    data, _ = client.json(f"{client.hosts.civitai}/api/v1/models/{model}", control, f"model {model}")
    versions = [each["id"] for each in _list(data, "modelVersions") if isinstance(each.get("id"), int)]
    if not versions:
        raise DownloadError(f"Model {model} has no version that can be fetched.", "Look at its page.")
    return versions[0]


def _chosen(files: list[dict[str, Any]], wanted: str, version: int) -> dict[str, Any]:
    names = [each["name"] for each in files]
    if wanted:
        if wanted not in names:
            text = f"Version {version} has no file '{wanted[:80]}'."
            raise ManyFiles(text, f"It has {', '.join(names)[:300]}.", names)
        return files[names.index(wanted)]
    usable = [each for each in files if each["name"].lower().endswith(WEIGHTS)]
    return next((each for each in usable if each.get("primary")), None) or next(iter(usable), files[0])


def _address(client: Client, file: dict[str, Any], version: int) -> str:
    """The host's own word for it; another host than its own gets no say here, a redirect may still lead there."""
    url = file.get("downloadUrl")
    if isinstance(url, str) and url.startswith("http"):
        if origin(url) != origin(client.hosts.civitai):
            text = f"Civitai names {host_of(url)} as the place of version {version}."
            raise DownloadError(text, "Look at its page in your browser.")
        return url
    return f"{client.hosts.civitai}/api/download/models/{version}"


def _bytes(kilobytes: object) -> int | None:
    if isinstance(kilobytes, bool) or not isinstance(kilobytes, int | float) or not 0 < kilobytes < 1e12:
        return None
    return round(kilobytes * 1024)


def _list(data: object, name: str) -> list[dict[str, Any]]:
    found = data.get(name) if isinstance(data, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _text(model: object) -> str:
    name = model.get("name") if isinstance(model, dict) else ""
    return name if isinstance(name, str) else ""
