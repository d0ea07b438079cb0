"""One file: from its address through `NAME.part` to its name, whole and checked or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.library.download.answers import refusal
from pipelines.library.download.client import Answer, Client
from pipelines.library.download.control import Control
from pipelines.library.download.errors import DownloadError, HostBusy, LostConnection
from pipelines.library.download.file_names import numbered
from pipelines.library.download.finish import finish, look_at_start, same_file
from pipelines.library.download.hosts import without_secrets
from pipelines.library.download.part import Part, opened
from pipelines.library.download.plan import PlannedFile
from pipelines.library.download.web import refuse_page
from pipelines.library.files import remove
from pipelines.spec.downloads import size_text

TRIES = 3
PAUSES_S = (2.0, 8.0)  # between them
PATIENCE_S = 60.0  # a host that asks to wait longer is left
WORTH_BYTES = 16 << 20  # a try that brought this much does not count
START = 64  # bytes that tell what a file is
_MAX_NUMBER = 1000
_PIECE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

# (bytes of this file that are there, of how many or None, whether it is being checked)
Tell = Callable[[int, int | None, bool], None]


class Digest:
    """The SHA-256 of the first `count` bytes."""

    def __init__(self) -> None:
        self._sha256, self.count = hashlib.sha256(), 0

    def add(self, data: bytes) -> None:
        self._sha256.update(data)
        self.count += len(data)

    def hex(self) -> str:
        return self._sha256.hexdigest()


@dataclass(slots=True)
class Fetch:
    """`target` is where the file goes; another name is taken where that one is in use, unless it must be `exact`."""

    client: Client
    file: PlannedFile
    target: Path
    control: Control
    tell: Tell
    exact: bool = False

    def run(self) -> Path:
        """Where the file is at the end. Raises DownloadError, Cancelled; the part is kept for another run."""
        place = self._place()
        if isinstance(place, Path):
            return place
        try:
            return self._with_tries(place)
        except BaseException:
            if not place.size:
                place.forget()  # a refusal leaves nothing behind
            raise
        finally:
            place.close()

    def _place(self) -> Part | Path:
        """The file itself when it is there already."""
        url = without_secrets(self.file.url)
        for number in range(1, 2 if self.exact else _MAX_NUMBER):
            target = numbered(self.target, number)
            if target.exists() or target.is_symlink():
                if same_file(target, self.file, self.control, lambda done: self.tell(done, None, True)):
                    return target
            elif part := opened(target, url):
                return part
        if self.exact:
            text = f"{self.target} is being fetched already."
            raise DownloadError(text, "Wait for the other download, or remove its folder.")
        raise DownloadError(f"{self.target.parent} holds too many files called {self.target.name}.")

    def _with_tries(self, part: Part) -> Path:
        tries = 0
        while True:
            before = part.size
            try:
                digest = self._try(part)
                self.tell(part.size, part.size, True)
                return self._without_double(finish(part, self.file, digest, self.control), digest)
            except LostConnection as error:
                tries = tries + 1 if part.size - before < WORTH_BYTES else 1
                pause = PAUSES_S[min(tries, len(PAUSES_S)) - 1]
                if isinstance(error, HostBusy) and error.retry_after_s is not None:
                    pause = error.retry_after_s
                if tries >= TRIES or pause > PATIENCE_S:
                    raise self._given_up(error, part, tries) from error
                self.control.wait(pause)

    def _without_double(self, path: Path, sha256: str) -> Path:
        """Where the host tells no sum, only now it can be seen that the file was there already."""
        known = dataclasses.replace(self.file, sha256=sha256, size=None)
        if path == self.target or not same_file(self.target, known, self.control, lambda _: None):
            return path
        remove(path)
        return self.target

    def _given_up(self, error: LostConnection, part: Part, tries: int) -> LostConnection:
        if isinstance(error, HostBusy):
            return error
        total = f" of {size_text(part.facts.total)}" if part.facts.total else ""
        times = f" {tries} tries in a row ended so, at {size_text(part.size)}{total}."
        return LostConnection(f"{error.message}{times if tries > 1 else ''}", error.hint)

    def _try(self, part: Part) -> str:
        """One request, up to the last byte. Answers with the SHA-256."""
        digest = Digest()
        offset = self._resumed(part, digest)
        if offset and offset == part.facts.total:
            return digest.hex()  # all that was missing is its name
        headers = {"Range": f"bytes={offset}-", "If-Range": part.facts.validator} if offset else {}
        with self.client.open(self.file.url, self.control, headers) as answer:
            if offset and answer.status == 416 and _whole_size(answer) == offset:
                part.learn(total=offset)
                return digest.hex()
            if offset and not self._continues(answer, part, offset):
                part.restart()
                if answer.status != 200:
                    raise LostConnection(f"{answer.host} has another version of the file now.", "Try again.")
                offset, digest = 0, Digest()
            if not offset:
                self._begin(answer, part)
            self._pour(answer, part, digest)
        self._check_length(part, answer)
        return digest.hex()

    def _resumed(self, part: Part, digest: Digest) -> int:
        """How much of the part can be gone on from, in bytes; its sum is taken on the way."""
        total = part.facts.total
        if part.size and (not part.facts.validator or (total is not None and part.size > total)):
            part.restart()
        if part.size:
            for piece in part.read():
                self.control.check()
                digest.add(piece)
                self.tell(digest.count, total, True)
        return part.size

    def _continues(self, answer: Answer, part: Part, offset: int) -> bool:
        """Whether the answer is just the rest of what is there. Raises DownloadError for a refusal."""
        if answer.status not in (200, 206, 416):
            raise refusal(answer, self.file.path, self.client.hosts)
        found = _PIECE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if answer.status != 206 or answer.encoded or not found or int(found[1]) != offset:
            return False
        total = None if found[3] == "*" else int(found[3])
        if part.facts.total is None and total is not None:
            part.learn(total=total)
        now = _validator(answer)  # a server may ignore If-Range and send the rest of another file
        same = not now or now == part.facts.validator
        return same and total in (None, part.facts.total)

    def _begin(self, answer: Answer, part: Part) -> None:
        """What a file from its first byte must look like. Raises DownloadError before anything is written."""
        if answer.status != 200:
            raise refusal(answer, self.file.path, self.client.hosts)
        refuse_page(answer, self.file.path)
        total = answer.length()
        if total is not None and self.file.exact and self.file.size not in (None, total):
            raise DownloadError(
                f"{self.file.path} has {total} bytes at {answer.host} now, and had {self.file.size}.",
                "It has changed since you looked: look again.",
            )
        part.learn(total=total, validator="" if answer.encoded else _validator(answer))

    def _pour(self, answer: Answer, part: Part, digest: Digest) -> None:
        expected = part.facts.total if part.facts.total is not None else self.file.size
        start: bytes | None = b"" if not digest.count else None
        for data in answer.chunks(self.control):
            if start is not None:
                start += data
                if len(start) < START:
                    continue
                data, start = start, None
                look_at_start(self.file.path, data[:START], expected)
            part.append(data)
            digest.add(data)
            self.tell(part.size, expected, False)
        if start:
            look_at_start(self.file.path, start, len(start))
            part.append(start)
            digest.add(start)

    def _check_length(self, part: Part, answer: Answer) -> None:
        total = part.facts.total
        if total is not None and part.size > total:
            part.restart()
            raise LostConnection(f"{answer.host} sent more than it said.", "Try again.")
        if total is not None and part.size < total:
            raise LostConnection(
                f"The connection to {answer.host} was lost.", "Try again; what has come is kept."
            )


def _validator(answer: Answer) -> str:
    """A strong ETag, else the date; a weak ETag says nothing of bytes (RFC 9110, 8.8.1 and 13.1.5)."""
    etag = answer.headers.get("ETag", "").strip()
    if etag.startswith('"') and etag.endswith('"') and len(etag) > 2:
        return etag
    return answer.headers.get("Last-Modified", "").strip()


def _whole_size(answer: Answer) -> int | None:
    found = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", "").strip())
    return int(found[1]) if found else None
