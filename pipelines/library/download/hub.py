"""Plans for repositories of Hugging Face: one file, or the files of a whole diffusers model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.library.controlnets import CONFIG
from pipelines.library.download.client import Client
from pipelines.library.download.control import Control
from pipelines.library.download.errors import DownloadError, ManyFiles
from pipelines.library.download.file_names import BESIDE, inner_path, refuse_kind, safe_name
from pipelines.library.download.plan import Plan, PlannedFile
from pipelines.library.download.sources import HubSource
from pipelines.library.download.web import require_permission
from pipelines.library.header import WEIGHTS
from pipelines.library.walk import INDEX

MAX_PAGES = 100
_UNUSED_PARTS = ("safety_checker",)  # 1.2 GB that no family here asks for
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|ema|non_ema|int8)(?=[.-])")
_WHOLE = "diffusion_pytorch_model"  # how diffusers calls the weights of a network in its own folder


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a repository; `sha256` is empty for one that is not in its large-file store."""

    path: str
    size: int
    sha256: str = ""


def plan_of(client: Client, source: HubSource, folder: Path, control: Control, file: str, half: bool) -> Plan:
    """`file` overrides the source's own. Raises DownloadError; ManyFiles when it holds no model but several files."""
    commit = _commit(client, source, control)
    entries = _entries(client, source, commit, control)
    wanted = file or source.file
    if wanted:
        return _one(client, source, folder, commit, _named(entries, wanted, source), control)
    paths = {entry.path for entry in entries}
    if INDEX in paths:
        index, _ = client.json(_address(client, source, commit, INDEX), control, f"{source.repo}/{INDEX}")
        return _whole(client, source, folder, commit, _of_model(entries, index, half))
    if CONFIG in paths and any(_is_network(path) for path in paths):
        return _whole(client, source, folder, commit, _of_network(entries, half))
    weights = [entry for entry in entries if entry.path.lower().endswith(WEIGHTS)]
    if len(weights) != 1:
        raise _which(source, [entry.path for entry in weights])
    return _one(client, source, folder, commit, weights[0], control)


def _commit(client: Client, source: HubSource, control: Control) -> str:
    """What the revision is now, so that all files are of one state."""
    address = (
        f"{client.hosts.huggingface}/api/models/{source.repo}/revision/{quote(source.revision, safe='')}"
    )
    data, _ = client.json(address, control, f"model '{source.repo}' at {source.revision}")
    sha = data.get("sha") if isinstance(data, dict) else None
    return sha if isinstance(sha, str) and re.fullmatch(r"[0-9a-f]{40}", sha) else source.revision


def _entries(client: Client, source: HubSource, commit: str, control: Control) -> list[Entry]:
    base = f"{client.hosts.huggingface}/api/models/{source.repo}/tree/{quote(commit, safe='')}"
    address, found = f"{base}?recursive=true", []
    for _ in range(MAX_PAGES):
        data, address = client.json(address, control, f"list of the files of {source.repo}")
        found += [entry for each in data if (entry := _entry(each))] if isinstance(data, list) else []
        if not address:
            break
    return found


def _entry(data: Any) -> Entry | None:
    if not isinstance(data, dict) or data.get("type") != "file" or not isinstance(data.get("path"), str):
        return None
    found = data.get("lfs")
    large: dict[str, Any] = found if isinstance(found, dict) else {}
    size = large.get("size", data.get("size"))
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        return None
    sha256 = str(large.get("oid") or "").removeprefix("sha256:").lower()
    return Entry(data["path"], size, sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else "")


def _named(entries: list[Entry], wanted: str, source: HubSource) -> Entry:
    """By its path, or by its name where only one file has it."""
    alike = [e for e in entries if e.path == wanted] or [e for e in entries if Path(e.path).name == wanted]
    if len(alike) == 1:
        return alike[0]
    raise _which(source, [e.path for e in entries if e.path.lower().endswith(WEIGHTS)], wanted)


def _which(source: HubSource, names: list[str], wanted: str = "") -> DownloadError:
    if not names:
        text = (
            f"{source.repo} holds no .safetensors or .gguf file{f' and no {wanted[:80]}' if wanted else ''}."
        )
        return DownloadError(text, "Look for a version of the model that is saved as .safetensors.")
    text = f"{source.repo} has no file '{wanted[:80]}'." if wanted else f"{source.repo} is not one model."
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return ManyFiles(text, f"Name one of its files: {shown}", names)


def _of_model(entries: list[Entry], index: Any, half: bool) -> list[Entry]:
    """The configs at the top, and of each part that the index names what is no pickle and no double."""
    parts = {
        name
        for name, value in (index.items() if isinstance(index, dict) else ())
        if isinstance(value, list) and len(value) == 2 and value[1] and name not in _UNUSED_PARTS
    }
    kept = [entry for entry in entries if entry.path == INDEX]
    for part in sorted(parts):
        inside = [entry for entry in entries if entry.path.startswith(f"{part}/")]
        kept += _without_doubles(inside, half)
    return kept


def _of_network(entries: list[Entry], half: bool) -> list[Entry]:
    """One network by itself, such as a ControlNet: its config and its weights in diffusers' names."""
    top = [e for e in entries if e.path == CONFIG or _is_network(e.path) or e.path.endswith(".index.json")]
    return _without_doubles([entry for entry in top if "/" not in entry.path], half)


def _is_network(path: str) -> bool:
    return path.startswith(_WHOLE) and path.lower().endswith(WEIGHTS)


def _without_doubles(entries: list[Entry], half: bool) -> list[Entry]:
    """Weights in one precision: the full ones, or float16 with `half`; the other where there is only that."""
    weights = [e for e in entries if e.path.lower().endswith(WEIGHTS) or ".safetensors.index" in e.path]
    others = [e for e in entries if e not in weights and e.path.lower().endswith(BESIDE)]
    others = [e for e in others if ".bin.index" not in e.path and ".msgpack.index" not in e.path]
    full = [e for e in weights if not _VARIANT.search(Path(e.path).name)]
    float16 = [e for e in weights if ".fp16." in Path(e.path).name or ".fp16-" in Path(e.path).name]
    return others + ((float16 or full) if half else (full or float16))


def _address(client: Client, source: HubSource, commit: str, path: str) -> str:
    return f"{client.hosts.huggingface}/{source.repo}/resolve/{quote(commit, safe='')}/{quote(path)}"


def _one(
    client: Client, source: HubSource, folder: Path, commit: str, entry: Entry, control: Control
) -> Plan:
    name = safe_name(entry.path)
    refuse_kind(name)
    url = _address(client, source, commit, entry.path)
    require_permission(client, url, name, control)  # of a gated model everybody may read the list
    file = PlannedFile(url=url, path=name, size=entry.size, sha256=entry.sha256)
    told = str(HubSource(source.repo, source.revision, entry.path))
    return Plan(source=told, title=f"{source.repo}/{entry.path}", folder=folder, files=(file,), mark=commit)


def _whole(client: Client, source: HubSource, folder: Path, commit: str, entries: list[Entry]) -> Plan:
    if not any(entry.path.lower().endswith(WEIGHTS) for entry in entries):
        raise _which(source, [])
    files = tuple(
        PlannedFile(
            url=_address(client, source, commit, entry.path),
            path=inner_path(entry.path),
            size=entry.size,
            sha256=entry.sha256,
        )
        for entry in sorted(entries, key=lambda entry: (entry.size, entry.path))
    )
    name = safe_name(source.repo.rpartition("/")[2])
    return Plan(source=str(source), title=source.repo, folder=folder, files=files, name=name, mark=commit)
