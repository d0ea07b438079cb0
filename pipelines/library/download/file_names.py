"""What may be downloaded, and under which name it is kept."""

from __future__ import annotations

import re
from email.message import EmailMessage
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pipelines.library.download.errors import DownloadError
from pipelines.library.header import CONVERT, PICKLES, WEIGHTS
from pipelines.library.names import safe_stem

BESIDE = (".json", ".txt", ".model", ".yaml")  # configs, vocabularies, words of sentencepiece
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
KINDS = (*WEIGHTS, *BESIDE)
PART, BAD = ".part", ".bad"


def safe_name(text: str) -> str:
    """The last part of `text` as one file name that is legal on every system, its ending kept. Never a folder."""
    last = re.split(r"[/\\]", text.rstrip("/\\ ."))[-1]
    stem, dot, end = last.rpartition(".")
    if not stem or not re.fullmatch(r"[A-Za-z0-9]{1,12}", end):
        stem, dot, end = last, "", ""
    return safe_stem(stem, f"{dot}{end}")


def refuse_kind(name: str) -> None:
    """Raises DownloadError for what is not kept: archives, pickles, and what no model consists of."""
    low = name.lower()
    if low.endswith(ARCHIVES):
        text = f"{name} is an archive; Emulsion does not unpack archives."
        raise DownloadError(text, "Fetch it with your browser and unpack it into a models folder.")
    if low.endswith(PICKLES):
        raise DownloadError(f"{name} is of a kind that can run code; it is not fetched.", CONVERT)
    if not low.endswith(KINDS):
        kinds = ", ".join(KINDS)
        raise DownloadError(f"{name} is no model file.", f"What can be fetched ends in {kinds}.")


def inner_path(text: str) -> str:
    """A path inside a repository, as it is. Raises DownloadError for one that could leave the folder."""
    parts = PurePosixPath(text).parts
    if not parts or "\\" in text or any(part != safe_name(part) for part in parts):
        raise DownloadError(
            f"The repository holds a file whose name is not safe: '{text[:80]}'.",
            "Fetch single files of it.",
        )
    return "/".join(parts)


def offered_name(disposition: str, *urls: str) -> str:
    """What the server calls the file, else the end of the first of `urls` that has a known ending; '' for neither."""
    if disposition:
        message = EmailMessage()
        try:
            message["content-disposition"] = disposition.encode("latin-1", "replace").decode(
                "utf-8", "replace"
            )
            if name := message.get_filename():
                return safe_name(name)
        except (ValueError, LookupError, IndexError, AttributeError):
            pass  # a broken header is no name
    for url in urls:
        last = unquote(urlsplit(url).path).rpartition("/")[2]
        if last.lower().endswith((*KINDS, *ARCHIVES, *PICKLES)):
            return safe_name(last)
    return ""


def numbered(path: Path, number: int) -> Path:
    """'name.safetensors', then 'name (2).safetensors' and so on."""
    return path if number == 1 else path.with_name(f"{path.stem} ({number}){path.suffix}")
