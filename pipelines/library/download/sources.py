"""What a person types becomes a `Source`. Nothing is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from pipelines.library.download.errors import DownloadError
from pipelines.library.download.file_names import KINDS
from pipelines.library.download.hosts import Hosts, checked, origin, without_secrets

EXAMPLES = (
    "https://example.org/model.safetensors",
    "stabilityai/sd-turbo",
    "stabilityai/sd-turbo/unet/diffusion_pytorch_model.safetensors",
    "hf:org/repo@revision:file.safetensors",
    "civitai:12345",
)
_HINT = f"Such as {', '.join(EXAMPLES[1:])}, or an address that begins with https://"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPO = re.compile(rf"{_NAME}/{_NAME}")
_HUB = re.compile(rf"(?:hf:)?(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[^\s:@]+))?(?:[:/](?P<file>.+))?")
_CIVITAI = re.compile(r"(?:urn:air:[^:]+:[^:]+:)?civitai:(?:\d+@)?(?P<version>\d{1,12})", re.IGNORECASE)
_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_CIVITAI_HOSTS = ("civitai.com", "www.civitai.com", "civitai.green", "civitai.red")
_NOT_MODELS = ("datasets", "spaces", "docs", "blog", "papers", "collections", "api")


@dataclass(frozen=True, slots=True)
class UrlSource:
    url: str

    def __str__(self) -> str:
        return without_secrets(self.url)


@dataclass(frozen=True, slots=True)
class HubSource:
    """`file` is a path inside the repository, empty for all of it; `revision` a branch, tag or commit."""

    repo: str
    revision: str = "main"
    file: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision != "main" else ""
        return f"hf:{self.repo}{revision}{f':{self.file}' if self.file else ''}"


@dataclass(frozen=True, slots=True)
class CivitaiSource:
    """A version of a model; `version` 0 means the newest of `model`."""

    version: int
    model: int = 0

    def __str__(self) -> str:
        return (
            f"civitai:{self.version}" if self.version else f"the newest version of Civitai model {self.model}"
        )


Source = UrlSource | HubSource | CivitaiSource


def parse(text: str, hosts: Hosts | None = None) -> Source:
    """Raises DownloadError for what is none of the forms in EXAMPLES."""
    hosts = hosts or Hosts()
    text = text.strip()
    if not text:
        raise DownloadError("Nothing was named.", _HINT)
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        return _of_url(text, hosts)
    if text.partition("/")[0].lower() in (*_HUB_HOSTS, *_CIVITAI_HOSTS):
        return _of_url(f"https://{text}", hosts)
    if found := _CIVITAI.fullmatch(text):
        return CivitaiSource(int(found["version"]))
    if found := _HUB.fullmatch(text):
        return _hub(found["repo"], found["revision"] or "main", found["file"] or "")
    raise DownloadError(f"'{without_secrets(text)[:100]}' names nothing that can be fetched.", _HINT)


def _of_url(url: str, hosts: Hosts) -> Source:
    parts = checked(url)
    host = (parts.hostname or "").lower()
    if host in _HUB_HOSTS or origin(url) == origin(hosts.huggingface):
        return _of_hub_page(url)
    if host in _CIVITAI_HOSTS or origin(url) == origin(hosts.civitai):
        return _of_civitai_page(url)
    return UrlSource(parts._replace(fragment="").geturl())


def _of_hub_page(url: str) -> HubSource:
    """/org/repo, /org/repo/tree/main, /org/repo/blob/main/path, /org/repo/resolve/main/path."""
    names = [unquote(name) for name in urlsplit(url).path.split("/") if name]
    if len(names) < 2 or names[0] in _NOT_MODELS:
        raise DownloadError(f"{url[:100]} is not the page of a model.", "Name one as org/repo.")
    repo, rest = "/".join(names[:2]), names[2:]
    if not rest:
        return _hub(repo, "main", "")
    if rest[0] not in ("blob", "resolve", "raw", "tree") or len(rest) < 2:
        raise DownloadError(f"{url[:100]} is not the page of a model or a file.", "Name one as org/repo.")
    if rest[0] == "tree" and len(rest) > 2:
        raise DownloadError(
            f"{'/'.join(rest[2:])} is a folder inside {repo}; parts of a model are not fetched by themselves.",
            f"Fetch the whole model with {repo}, or one file with {repo}/{'/'.join(rest[2:])}/FILE.",
        )
    return _hub(repo, rest[1], "/".join(rest[2:]))


def _hub(repo: str, revision: str, file: str) -> HubSource:
    repo = repo.removesuffix(".git")
    parts = file.split("/") if file else []
    if not _REPO.fullmatch(repo) or ".." in repo or ".." in parts or "" in parts or ".." in revision:
        raise DownloadError(f"'{repo[:100]}' is no repository of Hugging Face.", _HINT)
    if file and not re.search(r"\.[A-Za-z0-9]+$", file):
        text = f"'{file[:100]}' names no file of {repo}."
        raise DownloadError(text, f"A file has an ending, such as {', '.join(KINDS[:3])}.")
    return HubSource(repo, revision, file)


def _of_civitai_page(url: str) -> CivitaiSource:
    """/models/123/name?modelVersionId=456 and /api/download/models/456. A token in the query is dropped."""
    parts = urlsplit(url)
    version = parse_qs(parts.query).get("modelVersionId", [""])[0]
    if found := re.match(r"/(?:api/download/models|api/v1/model-versions)/(\d{1,12})", parts.path):
        return CivitaiSource(int(found[1]))
    found = re.match(r"/models/(\d{1,12})", parts.path)
    if re.fullmatch(r"\d{1,12}", version):
        return CivitaiSource(int(version), int(found[1]) if found else 0)
    if found:
        return CivitaiSource(0, int(found[1]))
    raise DownloadError(
        f"{without_secrets(url)[:100]} is not the page of a model.",
        "Name the version as civitai:12345, or the page with /models/ in its address.",
    )


def with_query(url: str, **values: str) -> str:
    """`url` with these in its query."""
    parts = urlsplit(url)
    query = "&".join(each for each in (parts.query, urlencode(values)) if each)
    return parts._replace(query=query).geturl()
